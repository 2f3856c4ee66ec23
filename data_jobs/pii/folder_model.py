"""A name model of one's own (``data.names``): a token classification model from a local folder.

Nothing is downloaded and no code of the folder is run. transformers and torch are loaded with the model only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cluster.core.errors import BadInputError
from data_jobs.pii.redactor import TypedSpan

WINDOW_TOKENS = 256
OVERLAP_TOKENS = 32  # Windows overlap by so much that a name which one of them cuts is whole in the next.
_PERSON = ("PER", "PERSON")


class NameModel:
    """See the module; ``load_folder`` makes one. Not thread-safe."""

    def __init__(self, tokenizer: Any, model: Any) -> None:
        self._tokenizer, self._model = tokenizer, model
        labels = {int(i): str(label).upper() for i, label in model.config.id2label.items()}
        self._begins = {i for i, label in labels.items() if label in ("B-PER", "B-PERSON")}
        self._persons = {i for i, label in labels.items() if label.rpartition("-")[2] in _PERSON}
        if not self._persons:
            raise BadInputError(f"the name model knows no label PER or PERSON: {sorted(labels.values())}")

    def entities(self, text: str) -> list[TypedSpan]:
        """Names as ``PERSON``: sorted, not overlapping; whole words only."""
        return [(start, end, "PERSON") for start, end in self.spans(text)]

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Spans of names, sorted, not overlapping; whole words only."""
        if not text.strip():
            return []
        import torch

        windows = self._tokenizer(
            text, return_tensors="pt", return_offsets_mapping=True, return_overflowing_tokens=True, truncation=True,
            max_length=WINDOW_TOKENS, stride=OVERLAP_TOKENS, padding=True,
        )  # fmt: skip
        offsets = windows.pop("offset_mapping").tolist()
        windows.pop("overflow_to_sample_mapping")
        found: set[tuple[int, int]] = set()
        with torch.inference_mode():
            # One window at a time: memory does not grow with the text.
            for row, places in enumerate(offsets):
                one = {name: values[row : row + 1] for name, values in windows.items()}
                found.update(self._named(text, self._model(**one).logits[0].argmax(-1).tolist(), places))
        return _merged(found)

    def _named(self, text: str, labels: list[int], places: list[list[int]]) -> list[tuple[int, int]]:
        spans: list[tuple[int, int]] = []
        for label, (start, end) in zip(labels, places, strict=True):
            if label not in self._persons or start >= end:
                continue
            joined = spans and not text[spans[-1][1] : start].strip() and label not in self._begins
            if joined or (spans and spans[-1][1] == start):
                spans[-1] = (spans[-1][0], end)
            else:
                spans.append((start, end))
        return [_whole_words(text, start, end) for start, end in spans]


def _whole_words(text: str, start: int, end: int) -> tuple[int, int]:
    while start > 0 and text[start - 1].isalnum() and text[start].isalnum():
        start -= 1
    while end < len(text) and text[end].isalnum() and text[end - 1].isalnum():
        end += 1
    return start, end


def _merged(spans: set[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def load_folder(folder: str) -> NameModel:
    """The model of a folder in transformers' layout.

    Raises:
        BadInputError: no such folder, no token classification model in it, or one without a label for persons.
    """
    if not Path(folder).is_dir():
        raise BadInputError(f"data.names: no folder {folder}")
    from transformers import AutoModelForTokenClassification, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        model = AutoModelForTokenClassification.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, use_safetensors=True
        )
    except (OSError, ValueError, KeyError) as error:
        raise BadInputError(f"data.names: {folder} holds no token classification model: {error}") from error
    if not tokenizer.is_fast:
        raise BadInputError(f"data.names: {folder} has no fast tokenizer, so tokens have no places in the text")
    return NameModel(tokenizer, model.eval())
