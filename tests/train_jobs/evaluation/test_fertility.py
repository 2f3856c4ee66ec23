"""Tokens a word and a text, by language."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cluster.cli.main import main
from cluster.core.errors import BadInputError
from tests.train_jobs.data.test_vocabulary import plain_bpe
from train_jobs.evaluation.fertility import score_fertility


def rows(path: Path, *items: dict[str, str]) -> Path:
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    return path


def test_languages_are_counted_apart_and_the_cheapest_comes_first(tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(plain_bpe())
    data = rows(
        tmp_path / "a.jsonl", {"lang": "de", "text": "die Pumpe"}, {"lang": "en", "text": "the pump"},
        {"lang": "en", "text": "the hose"}, {"bcp47": "ka", "code": "kat", "text": "ტუმბო"},
    )  # fmt: skip
    english, german, georgian = score_fertility(data, tokenizer)
    assert [one.language for one in (english, german, georgian)] == ["en", "de", "ka"]
    assert (english.texts, english.words, english.characters, english.round_trips) == (2, 4, 16, 2)
    assert english.tokens == sum(
        len(tokenizer.encode(t, add_special_tokens=False).ids) for t in ("the pump", "the hose")
    )
    assert (georgian.bytes, georgian.tokens) == (15, 15), "nothing of it was ever seen: a token a byte"
    assert georgian.to_dict()["tokens_per_word"] == 15


def test_the_suite_names_the_tokenizer_by_its_hash(
    tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tokenizer.json").write_text(plain_bpe())
    data = rows(tmp_path / "a.jsonl", {"lang": "en", "text": "the pump"}, {"lang": "sr-Cyrl-ekav", "text": "пумпа"})
    command = ["eval", "run", "--suite", "fertility", "--data", str(data), "--model"]
    assert main([*command, str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["sha256"]) == 64
    assert found["languages"][0]["tokens_per_word"] == 1.0
    assert main([*command, str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "1.00" in said
    assert said.count("chars/token") == 1, "a table of 80 columns, not a block for each of eighty languages"
    assert main([*command, "nobody"]) == 3
    assert "nobody" in capsys.readouterr().err


def test_rows_without_a_language_are_refused_by_their_line(tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(plain_bpe())
    data = rows(tmp_path / "a.jsonl", {"lang": "en", "text": "the pump"}, {"text": "x"})
    with pytest.raises(BadInputError, match=r"a\.jsonl:2"):
        score_fertility(data, tokenizer)


def test_a_text_may_hold_what_ends_a_line_elsewhere(tmp_path: Path) -> None:
    """U+2028 and U+0085 are plain characters of a JSON string; only a line feed ends a row."""
    from tokenizers import Tokenizer

    from data_jobs.filters.decontaminate import read_set
    from train_jobs.evaluation.dedup_suite import score_dedup
    from train_jobs.evaluation.pii_suite import score_pii
    from train_jobs.evaluation.questions import load_suite

    text = "the\u2028pump\u0085and the hose"
    row = {"id": "a", "lang": "en", "text": text, "spans": [], "question": text, "answerable": False}
    body = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in (row, {**row, "id": "b"}))
    data = tmp_path / "docs.jsonl"
    data.write_text(f"{body}\n", encoding="utf-8")
    (tmp_path / "pairs.tsv").write_text("id_a\tid_b\tjaccard\na\tb\t1.0\n")
    assert [one.texts for one in score_fertility(data, Tokenizer.from_str(plain_bpe()))] == [2]
    assert read_set(data, ["text"]) == [[text], [text]]
    assert [one.question for one in load_suite(str(data))] == [text, text]
    assert score_dedup(tmp_path).documents == 2
    assert score_pii(data).splits
