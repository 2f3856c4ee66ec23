"""A tokenizer with more tokens than it had: those of the prompt, and pieces that a corpus writes often.

Old tokens keep their ids and old merges their order, so that what was one token stays one. A new token's embedding is
the mean of those of the pieces it was before.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from cluster.core.errors import BadInputError, UnsupportedError
from train_jobs.answering.special_tokens import SPECIAL_TOKENS

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor

    from train_jobs.models.spec import ModelSpec

MAX_WORDS = 200_000  # distinct words that merges are counted on: the most frequent


class Extended:
    """A tokenizer and what became of its vocabulary.

    Attributes:
        tokenizer: with the new tokens.
        pieces: of each new token's id the old ids that it was written with.
    """

    def __init__(self, tokenizer: Tokenizer, pieces: Mapping[int, Sequence[int]]) -> None:
        self.tokenizer, self.pieces = tokenizer, dict(pieces)

    @property
    def size(self) -> int:
        """One more than the highest id."""
        return max(self.tokenizer.get_vocab(with_added_tokens=True).values()) + 1


def extend(tokenizer_json: str, texts: Iterable[str] = (), tokens: int = 0) -> Extended:
    """Add the special tokens of the prompt and up to ``tokens`` merges that shorten ``texts`` most.

    What the tokenizer put around every text of its own accord is taken off: prompts hold their own begin and end.

    Raises:
        UnsupportedError: merges are wanted of a tokenizer that is no BPE.
        BadInputError: it is no tokenizer.json.
    """
    from tokenizers import AddedToken, Tokenizer

    try:
        described: dict[str, Any] = json.loads(tokenizer_json)
        old = Tokenizer.from_str(tokenizer_json)
    except Exception as error:  # noqa: BLE001 (the library raises bare Exception)
        raise BadInputError(f"this is no tokenizer.json: {str(error)[:200]}") from None
    described |= {"post_processor": None, "truncation": None, "padding": None}
    next_id = max(old.get_vocab(with_added_tokens=True).values(), default=-1) + 1
    pieces: dict[int, list[int]] = {}
    if tokens:
        _add_merges(described["model"], old, texts, tokens, next_id, pieces)
    made = Tokenizer.from_str(json.dumps(described))
    known = made.get_vocab(with_added_tokens=True)
    if any(known.get(name) != number for name, number in old.get_vocab(with_added_tokens=True).items()):
        raise UnsupportedError(
            "this tokenizer numbers its tokens with gaps: more merges would renumber some; leave --dataset and "
            "--tokens out"
        )
    plain = Tokenizer.from_str(json.dumps(described))
    made.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    for token in SPECIAL_TOKENS:
        number = made.token_to_id(token)
        if number is not None and number >= next_id:
            pieces[number] = plain.encode(token, add_special_tokens=False).ids
    # A token of the prompt may have been written with merges that are new themselves.
    expanded = {
        number: [old_id for piece in ids for old_id in pieces.get(piece, [piece])] for number, ids in pieces.items()
    }
    return Extended(made, expanded)


def _add_merges(
    model: dict[str, Any], old: Tokenizer, texts: Iterable[str], tokens: int, next_id: int, pieces: dict[int, list[int]]
) -> None:
    """Go on with byte-pair encoding where the tokenizer's own training ended (Sennrich et al. 2016)."""
    if model.get("type") != "BPE":
        raise UnsupportedError(f"only BPE tokenizers can learn more tokens; this one is {model.get('type')!r}")
    vocab: dict[str, int] = model["vocab"]
    added = old.get_added_tokens_decoder()
    names = {number: name for name, number in vocab.items() if number not in added}
    # Added tokens that are not in the model's own vocabulary are numbered behind it when it is read: in it they keep
    # their numbers, and without a merge nothing but their own name is written with them.
    vocab |= {token.content: number for number, token in added.items()}
    words = _words(old, texts, names)
    merges = _Pairs(words)
    as_list = not model["merges"] or isinstance(model["merges"][0], list)
    for number in range(next_id, next_id + tokens):
        best = merges.best()
        if best is None:
            return
        first, second = best
        name = names[first] + names[second]
        if name in vocab:
            merges.forget(best)
            continue
        vocab[name], names[number] = number, name
        model["merges"].append([names[first], names[second]] if as_list else f"{names[first]} {names[second]}")
        pieces[number] = [*pieces.get(first, [first]), *pieces.get(second, [second])]
        merges.merge(best, number)


def _words(old: Tokenizer, texts: Iterable[str], names: Mapping[int, str]) -> list[tuple[list[int], int]]:
    """Distinct words as ids of the old tokenizer, with how often they stand in the texts."""
    counted: Counter[tuple[int, ...]] = Counter()
    for text in texts:
        found = old.encode(text, add_special_tokens=False)
        word: list[int] = []
        last = None
        for number, at in zip(found.ids, found.word_ids, strict=True):
            if at != last and word:
                counted[tuple(word)] += 1
                word = []
            last = at
            if number in names:
                word.append(number)
        if word:
            counted[tuple(word)] += 1
    return [(list(word), times) for word, times in counted.most_common(MAX_WORDS) if len(word) > 1]


class _Pairs:
    """Pairs of neighbours in words, counted, and the words they stand in."""

    def __init__(self, words: list[tuple[list[int], int]]) -> None:
        self.words = words
        self.counts: Counter[tuple[int, int]] = Counter()
        self.where: dict[tuple[int, int], set[int]] = defaultdict(set)
        for at in range(len(words)):
            self._count(at, 1)

    def best(self) -> tuple[int, int] | None:
        """The pair that occurs most, twice at least; of equal ones that of the lowest ids."""
        if not self.counts:
            return None
        pair = min(self.counts, key=lambda p: (-self.counts[p], p))
        return pair if self.counts[pair] > 1 else None

    def forget(self, pair: tuple[int, int]) -> None:
        """Leave a pair as it is."""
        del self.counts[pair]

    def merge(self, pair: tuple[int, int], number: int) -> None:
        """Write ``number`` for the pair wherever it stands."""
        for at in sorted(self.where.pop(pair)):
            self._count(at, -1)
            word, times = self.words[at]
            joined: list[int] = []
            for token in word:
                if joined and (joined[-1], token) == pair:
                    joined[-1] = number
                else:
                    joined.append(token)
            self.words[at] = (joined, times)
            self._count(at, 1)

    def _count(self, at: int, sign: int) -> None:
        word, times = self.words[at]
        for pair in pairwise(word):
            self.counts[pair] += sign * times
            if sign > 0:
                self.where[pair].add(at)
            if self.counts[pair] <= 0:
                del self.counts[pair]


def extend_embeddings(
    spec: ModelSpec, state: Mapping[str, Tensor], extended: Extended
) -> tuple[dict[str, Tensor], int]:
    """Weights with a row for each token of an extended vocabulary, and how many rows there are now.

    Rows that the model had spare take new tokens first; nothing else changes.
    """
    import torch

    network: Any = spec.build(device="meta")
    names = {id(weight): name for name, weight in network.named_parameters()}
    rows = max(spec.vocab, extended.size)
    found = dict(state)
    modules = (network.get_input_embeddings(), network.get_output_embeddings())
    tables = {names[id(weight)] for module in modules for weight in module.parameters(recurse=False)}
    for name in sorted(tables):
        old = state[name]
        table = old.new_zeros((rows, *old.shape[1:]))
        table[: len(old)] = old
        for number, ids in extended.pieces.items():
            if ids:
                table[number] = old[torch.tensor(ids)].float().mean(dim=0).to(old.dtype)
        found[name] = table
    return found, rows
