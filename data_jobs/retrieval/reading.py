"""The reader's forward pass where nothing is learnt: windows to readings, on a CPU, in 8-bit integers where it can.

A reader is a folder: ``config.json``, ``tokenizer.json``, ``model.safetensors`` with matrices as int8 and a scale for
each row (``packed``), and ``reader.json``: format, temperature, token limits, what it has learnt from and its licence.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cluster.core.errors import BadInputError
from cluster.core.records import stable_hash
from cluster.core.sections.data import IndexSection
from data_jobs.retrieval.model_files import ModelFiles, find_model

if TYPE_CHECKING:
    from tokenizers import Tokenizer


FORMAT = "plinth-reader-1"
ABOUT = "reader.json"
SHIPPED = "shipped"
SHIPPED_FOLDER = Path(__file__).with_name("reader_model")
LONGEST_SPAN = 30  # tokens
# Token types: a token of the question or of the window, each apart for those that the other side has, too. That words
# are shared is what attention has to find out first: told, it needs fewer rows to learn from.
QUESTION, TEXT, SHARED, TYPES = 0, 1, 2, 4


@dataclass(frozen=True)
class Window:
    """A piece of a document as the reader sees it.

    Attributes:
        title: what the document, the section and a row's columns are called.
        text: a contiguous piece of the passage, ``document.text[start : start + len(text)]``.
        passage: index into ``Retrieval.passages``.
        start: where ``text`` begins in the passage's document (characters).
    """

    title: str
    text: str
    passage: int = 0
    start: int = 0


@dataclass(frozen=True)
class Reading:
    """What the reader says of a window.

    Attributes:
        answerable: the calibrated probability, 0 to 1, that the window answers the question.
        start, end: half-open character offsets in the window's text of the best span; the span is a guess where
            ``answerable`` is low, and (0, 0) where the text has no token.
        relevance: how well the window fits the question, any scale, higher is better: orders windows of one question.
    """

    answerable: float
    start: int
    end: int
    relevance: float


@dataclass(frozen=True)
class Limits:
    """How many tokens of each part are read; what is longer is cut at its end."""

    question: int = 32
    title: int = 16
    total: int = 96


@dataclass(frozen=True)
class Encoded:
    """A question and a window as the network takes them: [CLS] question [SEP] title [SEP] text [SEP].

    Attributes:
        ids, types: of the tokens.
        text: where the text's tokens begin; offsets: their spans of characters in the text.
    """

    ids: list[int]
    types: list[int]
    text: int
    offsets: list[tuple[int, int]]


def encode(tokenizer: Tokenizer, question: str, title: str, text: str, limits: Limits) -> Encoded:
    """One pair; ``tokenizer`` neither pads nor cuts, and has [CLS] and [SEP]."""
    asked, called, said = (tokenizer.encode(part, add_special_tokens=False) for part in (question, title, text))
    cls, sep = tokenizer.token_to_id("[CLS]") or 0, tokenizer.token_to_id("[SEP]") or 0
    own, heading = asked.ids[: limits.question], called.ids[: limits.title]
    body = said.ids[: max(0, limits.total - len(own) - len(heading) - 4)]
    words, window = set(own), {*heading, *body}
    ids = [cls, *own, sep, *heading, sep, *body, sep]
    types = [QUESTION, *(QUESTION + SHARED * (i in window) for i in own), QUESTION]
    types += [TEXT + SHARED * (i in words) for i in heading] + [TEXT]
    types += [TEXT + SHARED * (i in words) for i in body] + [TEXT]
    return Encoded(ids, types, len(own) + len(heading) + 3, [(a, b) for a, b in said.offsets[: len(body)]])


def padded(rows: Sequence[Sequence[int]], value: int) -> np.ndarray:
    """int64 [rows, longest], padded to the right."""
    width = max((len(row) for row in rows), default=1)
    return np.array([[*row, *[value] * (width - len(row))] for row in rows], dtype=np.int64).reshape(len(rows), width)


def best_span(first: np.ndarray, last: np.ndarray) -> tuple[int, int]:
    """The likeliest run of tokens, both ends included, by the logits of its ends: float32 [tokens] each."""
    places = np.arange(len(first))
    reach = places[None, :] - places[:, None]
    scores = np.where((reach >= 0) & (reach < LONGEST_SPAN), first[:, None] + last[None, :], -np.inf)
    start, end = np.unravel_index(int(scores.argmax()), scores.shape)
    return int(start), int(end)


class WindowReader:
    """A reader out of a folder. Not thread-safe.

    Attributes:
        about: what reader.json says.
    """

    def __init__(self, folder: Path, threads: int = 0, precision: str = "") -> None:
        self.about = about_of(folder)
        import torch
        from safetensors.torch import load_file

        from data_jobs.retrieval import bert
        from data_jobs.retrieval.embedder import SAMPLES

        if threads:
            torch.set_num_threads(threads)
        self._limits, self._temperature = Limits(**self.about["limits"]), float(self.about["temperature"])
        self._files = find_model(IndexSection(embedder=str(folder)))
        tensors = bert.unpacked(load_file(self._files.weights))
        heads = ("answerable.dense", "answerable.out", "span")
        self._heads = {name: (tensors.pop(f"{name}.weight"), tensors.pop(f"{name}.bias")) for name in heads}
        self._encoder = bert.BertEncoder(self._files.config, tensors, torch.float32, "cpu")
        self.precision = precision or ("int8" if bert.int8_supported() else "fp32")
        if self.precision == "int8":
            pairs = [self._encoded(SAMPLES[i - 1], "", text) for i, text in enumerate(SAMPLES)]
            tensor = torch.tensor
            self._encoder.quantize([tensor([p.ids]) for p in pairs], [tensor([p.types]) for p in pairs])

    @property
    def fingerprint(self) -> str:
        """Probabilities of equal fingerprints mean the same."""
        return _fingerprint(self._files, self.about)

    def read(self, question: str, windows: Sequence[Window]) -> list[Reading]:
        """As ``reader.Reader``."""
        if not windows:
            return []
        rows = [self._encoded(question, window.title, window.text) for window in windows]
        logits, spans = self.logits(rows)
        chances = 1 / (1 + np.exp(-np.clip(logits / self._temperature, -60, 60)))
        found = []
        for row, logit, chance, scores in zip(rows, logits, chances, spans, strict=True):
            start = end = 0
            if row.offsets:
                own = scores[row.text : row.text + len(row.offsets)]
                first, last = best_span(own[:, 0], own[:, 1])
                start, end = row.offsets[first][0], row.offsets[last][1]
            found.append(Reading(float(chance), start, end, float(logit)))
        return found

    def logits(self, rows: Sequence[Encoded]) -> tuple[np.ndarray, np.ndarray]:
        """Float32 [rows] whether each answers, before calibration, and [rows, tokens, 2] where."""
        import torch
        import torch.nn.functional as F  # noqa: N812

        ids, types = (torch.from_numpy(padded(part, 0)) for part in ([r.ids for r in rows], [r.types for r in rows]))
        mask = torch.from_numpy(padded([[1] * len(row.ids) for row in rows], 0)).bool()
        with torch.inference_mode():
            hidden = self._encoder(ids, None if bool(mask.all()) else mask, types)
            first = F.gelu(F.linear(hidden[:, 0], *self._heads["answerable.dense"]))
            logits = F.linear(first, *self._heads["answerable.out"]).squeeze(-1)
            return logits.numpy(), F.linear(hidden, *self._heads["span"]).numpy()

    def _encoded(self, question: str, title: str, text: str) -> Encoded:
        return encode(self._files.tokenizer, question, title, text, self._limits)


def about_of(folder: Path) -> dict[str, Any]:
    """What a reader's folder says of itself.

    Raises:
        BadInputError: it holds no reader, or one of another format.
    """
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInputError(f"{folder} holds no reader: {ABOUT} cannot be read: {error}", path=str(folder)) from error
    found = about.get("format") if isinstance(about, dict) else None
    if found != FORMAT:
        raise BadInputError(
            f"{folder} holds a reader of the format {found!r}, not {FORMAT!r}: train it again", path=str(folder)
        )
    return dict(about)


def fingerprint_of(name: str) -> str:
    """The fingerprint of the reader that ``load`` gives, without loading its weights; empty where it gives none.

    Raises:
        BadInputError: as ``about_of``.
    """
    folder = folder_of(name)
    if folder is None:
        return ""
    about = about_of(folder)
    return _fingerprint(find_model(IndexSection(embedder=str(folder))), about)


def _fingerprint(files: ModelFiles, about: dict[str, Any]) -> str:
    return stable_hash([files.fingerprint, about["limits"], float(about["temperature"])])


def folder_of(name: str) -> Path | None:
    """Where the reader of that name is; None for an empty name, and where the program came without one."""
    if not name or (name == SHIPPED and not (SHIPPED_FOLDER / ABOUT).is_file()):
        return None
    return SHIPPED_FOLDER if name == SHIPPED else Path(name).expanduser()


def load(name: str, threads: int) -> WindowReader | None:
    """As ``reader.load_reader``."""
    folder = folder_of(name)
    return None if folder is None else WindowReader(folder, threads)
