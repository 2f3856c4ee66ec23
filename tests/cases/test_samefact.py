"""Cases of duplicates and special tokens, each a folder with ``input`` and ``expected.json``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from cluster.core.records import Document
from cluster.core.sections.data import DataSection
from data_jobs.corpus.tokens import encode, make_encoder
from data_jobs.filters.dedup import deduplicate, fingerprint
from data_jobs.text.normalise import normalise
from train_jobs.answering.special_tokens import SPECIAL_TOKENS
from train_jobs.data.tokenizer import files_of, fit

CASES = Path(__file__).parent


def case(name: str) -> tuple[dict[str, str], dict[str, Any]]:
    """Texts by file name, and what is expected."""
    folder = next(CASES.glob(f"{name}_*"))
    texts = {p.name: normalise(p.read_text(encoding="utf-8")) for p in sorted(folder.glob("input/*"))}
    return texts, json.loads((folder / "expected.json").read_text(encoding="utf-8"))["check"]


@pytest.mark.parametrize(("name", "field"), [("c36", "documents"), ("c38", "kept")])
def test_duplicates(name: str, field: str) -> None:
    texts, check = case(name)
    documents = [Document(file, file, text, file) for file, text in texts.items()]
    threshold = DataSection().near_duplicate_jaccard
    gone = deduplicate(map(fingerprint, documents), texts.__getitem__, threshold)
    assert len(texts) - len(gone) == check[field]


def test_special_tokens() -> None:
    text = case("c40")[1]["text"]
    words = Document("a", "a", "Write what ends a prompt and what begins one.", "a")
    files = files_of(fit(iter([words]), 400), 128)
    encoder = make_encoder("test", files["tokenizer.json"], files["tokenizer_config.json"])
    tokens, starts = encode([text], encoder, encoder.load())
    ids = tokens[: int(starts[1])].tolist()
    assert (ids[0], ids[-1]) == (encoder.begin, encoder.end)
    assert not set(ids[1:-1]) & set(range(len(SPECIAL_TOKENS)))
    assert Tokenizer.from_str(files["tokenizer.json"].decode()).decode(ids[1:-1]) == text
