"""The suite ``squad``: titles that no reader learnt, gold answers in what is quoted, both sides of abstention."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from cluster.core.config import PlinthConfig
from cluster.core.errors import BadInputError
from data_jobs.retrieval.model_files import find_model
from data_jobs.retrieval.passage_reader import PassageReader
from tests.data_jobs.hash_embedder import HashEmbedder
from tests.fakes import WordReader
from train_jobs.evaluation.metrics import Rate
from train_jobs.evaluation.squad import ask_squad, balanced, load_asked, rates

CONFIG = PlinthConfig()
TEXTS = {
    "p1": ("Oaks", "The old oak of the village was planted in 1611. Its trunk measures nine metres around."),
    "p2": ("Boats", "The ferry of the lake was launched in 1904. It carries sixty people to the island."),
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "qa_squad2"
    folder.mkdir()
    contexts = [{"context_id": name, "title": title, "context": text} for name, (title, text) in TEXTS.items()]
    asked = [
        ("p1", "When was the old oak of the village planted?", ["1611"]),
        ("p1", "When was the old oak of the village felled by lightning?", []),
        ("p2", "When was the ferry of the lake launched?", ["1904"]),
    ]
    questions = [
        {"title": TEXTS[name][0], "context_id": name, "question": question, "answers": golds,
         "answer_starts": [TEXTS[name][1].index(gold) for gold in golds], "is_impossible": not golds}
        for name, question, golds in asked
    ]  # fmt: skip
    for name, rows in (("contexts", contexts), ("questions", questions)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def test_titles_that_the_reader_learnt_are_not_asked_about(data: Path) -> None:
    assert [(one.title, one.golds) for one in load_asked(data)] == [("Oaks", ("1611",)), ("Oaks", ())]


def test_data_of_another_form_are_refused(data: Path) -> None:
    with pytest.raises(BadInputError, match="holds no qa_squad2"):
        load_asked(data / "qa_squad2")
    (data / "qa_squad2" / "questions.jsonl").write_text('{"title": "Oaks"}\n')
    with pytest.raises(BadInputError, match="is_impossible"):
        load_asked(data)


def test_what_is_told_is_quoted_and_what_is_not_refused(data: Path) -> None:
    embedder = HashEmbedder(find_model(CONFIG.index).identity)
    outcomes, promised = ask_squad(data, CONFIG, embedder, PassageReader(WordReader()))  # type: ignore[arg-type]
    assert "too little evidence" in promised
    found = rates(outcomes)
    assert list(found) == ["all", "Oaks"]
    assert {name: (rate.hits, rate.total) for name, rate in found["all"].items()} == dict.fromkeys(found["all"], (1, 1))
    assert "1611" in outcomes[0].text
    unread, promised = ask_squad(data, CONFIG, embedder, PassageReader(None, "off"))  # type: ignore[arg-type]
    assert promised == "no reader"
    assert rates(unread)["all"]["refused"].hits == 0


def test_balanced_accuracy_lies_between_both_and_is_surer_than_either() -> None:
    kept, refused = Rate(90, 100), Rate(50, 100)
    value, low, high = balanced(kept, refused)
    assert value == pytest.approx(0.7)
    assert low < value < high
    assert high - low < min(rate.interval[1] - rate.interval[0] for rate in (kept, refused)) * 1.01
    assert math.isnan(balanced(kept, Rate(0, 0))[0])
