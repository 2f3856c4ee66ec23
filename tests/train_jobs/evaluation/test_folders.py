"""The suite of small folders: complete, read with care, and asked as the product answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.core.config import PlinthConfig
from cluster.core.errors import BadInputError
from data_jobs.retrieval.model_files import find_model
from data_jobs.retrieval.passage_reader import PassageReader
from tests.data_jobs.hash_embedder import HashEmbedder
from tests.fakes import WordReader
from train_jobs.evaluation.folders import OTHER_FOLDERS, ask_folders, load_folders, rates

CONFIG = PlinthConfig()


def test_eight_folders_of_ten_and_ten_questions_half_of_them_to_tune_on() -> None:
    folders = load_folders()
    assert len(folders) == 8
    assert sorted(folder.split for folder in folders) == ["report"] * 4 + ["tune"] * 4
    for folder in folders:
        assert 10 <= len(folder.pages) <= 20
        assert (len(folder.answerable), len(folder.missing)) == (10, 10)
        assert all(question.endswith("?") for question in (*dict(folder.answerable), *folder.missing))
        assert len(folder.documents) == len(folder.pages)
        assert all(document.title for document in folder.documents)


def test_eight_others_are_asked_in_other_words_and_only_report() -> None:
    folders = load_folders(OTHER_FOLDERS)
    assert len(folders) == 8
    assert {folder.split for folder in folders} == {"report"}
    for folder in folders:
        assert len(folder.pages) == 12
        assert (len(folder.answerable), len(folder.missing)) == (14, 14)


def test_a_file_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text("name: one\nsplit: tune\n")
    with pytest.raises(BadInputError, match=r"one\.yaml is no folder"):
        load_folders(tmp_path)
    (tmp_path / "one.yaml").write_text(
        "name: one\nsplit: tune\npages: {a.md: text}\nanswerable:\n  - b.md: What?\nmissing: []\n"
    )
    with pytest.raises(BadInputError, match=r"no page b\.md"):
        load_folders(tmp_path)


def test_asked_with_a_reader_a_folder_refuses_more_of_what_it_lacks() -> None:
    folders = [folder for folder in load_folders() if folder.name == "museum"]
    embedder = HashEmbedder(find_model(CONFIG.index).identity)
    told = []
    found = {}
    for name, reader in (("off", PassageReader(None, "off")), ("read", PassageReader(WordReader()))):
        asked = ask_folders(folders, CONFIG, embedder, reader, on_folder=lambda _, e: told.append(e))  # type: ignore[arg-type]
        found[name] = rates(asked)
        assert {table["answered"].total + table["refused"].total for table in found[name].values()} == {20}
    assert told[0] is None
    assert told[1].reader == "words-1"
    assert (found["read"]["museum"]["refused"].hits) > (found["off"]["museum"]["refused"].hits)
    assert list(found["off"]) == ["tune", "all", "museum"]
