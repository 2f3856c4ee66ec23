"""What a pretraining run reads: token shards of one dataset or of several mixed by weights, opened by the workers."""

from __future__ import annotations

import math
import posixpath
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cluster.core.errors import BadInputError, IncompatibleError, UsageError
from cluster.core.home import Home
from cluster.core.records import Manifest
from cluster.core.storage import Store
from data_jobs.corpus.token_index import KIND, Side, TokenIndex, read_index
from train_jobs.data.packing import Corpus, Windows, sampled
from train_jobs.data.shards import ShardStream, reader_of

if TYPE_CHECKING:
    from train_jobs.trainer.plan import RunPlan

Packing = Literal["documents", "stream"]
HELD_OUT_TOKENS = 8_192  # of all held-out documents: enough for a loss to two digits, a fraction of a second to compute


@dataclass(frozen=True)
class Ingredient:
    """A dataset of a mixture: its weight beside the others, and for how many epochs at most (0: no limit)."""

    dataset: Manifest
    weight: float = 1.0
    epochs: int = 0


@dataclass(frozen=True)
class Entry:
    """An ingredient as a plan carries it; ``tokens`` and ``dataset`` are ``NAME@VERSION``."""

    dataset: str
    tokens: str
    weight: float
    epochs: int


def parse_weights(text: str) -> list[tuple[str, float]]:
    """``A=0.7,B=0.3`` as names with weights; a name alone weighs 1.

    Raises:
        UsageError: a weight is not a positive number, or a name stands twice.
    """
    found = []
    for part in text.split(","):
        name, given, weight = part.strip().partition("=")
        found.append((name.strip(), _number(weight, f"the weight in {part.strip()!r}") if given else 1.0))
    names = [name for name, _ in found]
    if len(set(names)) != len(names):
        raise UsageError(f"{text!r} names a dataset twice: give each once, with its weight")
    if len(found) > 1 and not all(names):
        raise UsageError(f"{text!r} has a part without a name: write NAME=WEIGHT,NAME=WEIGHT")
    return found


def parse_epochs(text: str, names: Sequence[str]) -> dict[str, int]:
    """Most epochs of each dataset: one number for all, or ``A=2,B=4`` (0: no limit, as for those not named).

    Raises:
        UsageError: not whole numbers, or of a dataset that is not in the mixture.
    """
    if not text:
        return {}
    if "=" not in text:
        return dict.fromkeys(names, _whole(text))
    found = {}
    for part in text.split(","):
        name, _, number = (piece.strip() for piece in part.partition("="))
        if name not in names:
            raise UsageError(f"--max-epochs names {name!r}, and the datasets are {', '.join(names)}")
        found[name] = _whole(number)
    return found


def _number(text: str, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise UsageError(f"{what} must be a number above 0: write NAME=WEIGHT, as in --dataset a=0.7,b=0.3")
    return value


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise UsageError(f"--max-epochs takes whole numbers, not {text!r}: 2, or a=2,b=4")
    return int(text)


# -- what workers open -------------------------------------------------------------------------------------------------
def options_of(entries: Sequence[Entry], tokenizer_sha256: str, packing: Packing) -> dict[str, Any]:
    """``RunPlan.options`` of a run over token shards."""
    corpora = [asdict(entry) for entry in entries]
    return {"corpora": corpora, "tokenizer_sha256": tokenizer_sha256, "packing": packing}


def entries_of(plan: RunPlan) -> list[Entry]:
    """The ingredients of a plan; empty for one that carries its tokens in a file."""
    return [Entry(**row) for row in plan.options.get("corpora", ())]


def open_side(store: Store, entry: Entry, tokenizer_sha256: str, side: Side) -> tuple[TokenIndex, ShardStream]:
    """One side of an ingredient's shards, and their index.

    Raises:
        BadInputError: the tokens are gone.
        IncompatibleError: they are another tokenizer's, or an earlier format.
        IntegrityError: the index, or the size of a shard, does not match.
    """
    name, _, version = entry.tokens.partition("@")
    made = store.manifest(KIND, name, version)
    index, folder = read_index(store, made, tokenizer_sha256), store.artefact(made)
    cache = Home.from_env().folder("cache") / "token-blocks"
    return index, ShardStream(reader_of(store, folder, cache), index, side)


def open_windows(plan: RunPlan, store: Store) -> tuple[Windows, Windows]:
    """(to train on, held out) of a plan over token shards.

    Raises:
        PlinthError: as ``open_side``; the model's vocabulary is too small; or a side holds nothing.
    """
    entries, sha256 = entries_of(plan), plan.options["tokenizer_sha256"]
    apart = plan.options["packing"] == "documents"
    whole = sum(entry.weight for entry in entries)
    train, held_out, ends = [], [], set()
    for entry in entries:
        index, stream = open_side(store, entry, sha256, "train")
        check_usable(index, entry, plan.model.context, plan.model.vocab)
        train.append(Corpus(stream, entry.weight, entry.epochs))
        share = max(plan.model.context + 1, round(HELD_OUT_TOKENS * entry.weight / whole))
        held_out.append(sampled(open_side(store, entry, sha256, "held_out")[1], share, plan.seed))
        ends.add(index.end)
    (end,) = ends  # one tokenizer, one end token
    settings = (plan.model.context, plan.batch_tokens, plan.seed, end if apart else None)
    return Windows(train, *settings), Windows(np.concatenate(held_out), *settings)


def check_usable(index: TokenIndex, entry: Entry, context: int, vocab: int) -> None:
    """Refuse shards that hold less than a window, nothing held out, or ids that the model has no embedding for."""
    train, held_out = index.tokens("train"), index.tokens("held_out")
    if train <= context or not held_out:
        raise BadInputError(
            f"{entry.dataset} is too small to train on: {train} tokens to train on, {held_out} held out, and one "
            f"window takes train.context_tokens={context}"
        )
    if index.vocabulary > vocab:
        raise IncompatibleError(
            f"tokens {entry.tokens} have a vocabulary of {index.vocabulary:,} and the model one of {vocab:,}: train "
            "with the tokenizer that they were made with"
        )


def index_path(store: Store, entry: Entry) -> str:
    """Where an ingredient's ``index.json`` is."""
    name, _, version = entry.tokens.partition("@")
    return posixpath.join(store.path(KIND, name, version), "index.json")
