"""Suites and the runner, in process and over HTTP (with a transport that answers like the service)."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from cluster.core.errors import BadInputError, EnvironmentFaultError, PlinthError, UsageError
from cluster.core.records import Answer, Citation
from cluster.core.sections.answer import AnswerSection
from data_jobs.retrieval.results import Retrieval
from tests.train_jobs.answering.retrievals import COPYING, retrieval
from train_jobs.evaluation.answerer import HttpAnswerer, InProcessAnswerer, Reply
from train_jobs.evaluation.questions import Question, load_suite, suite_names
from train_jobs.evaluation.run import run_suite

QUESTIONS = [
    Question("1", "tune", "right and named", ("shutil.copytree",), "answerable"),
    Question("2", "tune", "cited only", ("shutil.move",), "answerable"),
    Question("3", "tune", "wrongly refused", ("shutil.copy",), "answerable"),
    Question("4", "tune", "near, refused", (), "near"),
    Question("5", "report", "near, answered", (), "near"),
    Question("6", "report", "far, refused", (), "far"),
]


def cited(*documents: str) -> tuple[Citation, ...]:
    return tuple(Citation(name, name, "", f"{name}#c0", (0, 1), "x", 1.0) for name in documents)


class Scripted:
    """Answers by the question's first word."""

    name = "scripted"

    def ask(self, question: str) -> Reply:
        if "refused" in question:
            return Reply(Answer("I do not know.", grounded=False, reason="low_support"), 2.0, ("shutil.copy",), "v1")
        made = Answer("shutil.copytree [1]", cited("shutil.copytree", "shutil.move"))
        return Reply(made, 1.0, ("shutil.copytree", "shutil.move"), "v1")


def test_rates_by_hand() -> None:
    result = run_suite(QUESTIONS, Scripted())
    tune = result.rates["tune"]
    assert (tune["cited"].hits, tune["cited"].total) == (2, 3)
    assert (tune["named"].hits, tune["named"].total) == (1, 3)
    assert (tune["answered"].hits, tune["answered"].total) == (2, 3)
    assert (tune["retrieved"].hits, tune["retrieved"].total) == (3, 3)
    assert (tune["abstained"].hits, tune["abstained"].total) == (1, 1)
    assert tune["abstained_far"].value is None
    report = result.rates["report"]
    assert (report["abstained"].hits, report["abstained"].total) == (1, 2)
    assert (report["abstained_near"].hits, report["abstained_far"].hits) == (0, 1)
    assert result.rates["all"]["abstained"].total == 3
    assert result.latency_ms == {"p50": 2.0, "p95": 2.0}
    assert result.index_version == "v1"


def test_result_is_plain_json_and_a_table() -> None:
    result = run_suite(QUESTIONS, Scripted(), splits=("tune",))
    row = json.loads(json.dumps(result.to_dict()))
    assert row["rates"]["tune"]["cited"]["total"] == 3
    assert row["questions"][0]["named_hit"] is True
    assert ("tune", "cited", "0.667", "0.21-0.94", "2/3") in result.rows()
    assert set(result.rates) == {"tune"}


def test_progress_and_empty_splits() -> None:
    seen: list[tuple[int, int]] = []
    run_suite(QUESTIONS, Scripted(), splits=("report",), on_question=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]
    with pytest.raises(UsageError, match="no question"):
        run_suite(QUESTIONS[:4], Scripted(), splits=("report",))


def test_in_process() -> None:
    class Searcher:
        def search(self, question: str, k: int | None = None) -> Retrieval:
            return retrieval(question, COPYING)

    reply = InProcessAnswerer(Searcher(), AnswerSection()).ask("How do I copy a directory tree?")
    assert reply.answer.citations[0].document == reply.retrieved[0] == "shutil.copytree"
    assert reply.ms >= 0


def served(request: httpx.Request) -> httpx.Response:
    body = json.loads(request.content)
    assert body == {"model": "quote", "messages": [{"role": "user", "content": "q"}]}
    assert request.headers["authorization"] == "Bearer key"
    extra = {
        "answer_id": "a1",
        "citations": [c.to_dict() for c in cited("json.loads")],
        "grounded": True,
        "index_version": "v2",
    }
    return httpx.Response(200, json={"choices": [{"message": {"content": "json.loads [1]"}}], "plinth": extra})


def test_over_http() -> None:
    client = httpx.Client(transport=httpx.MockTransport(served))
    for url in ("http://127.0.0.1:8000", "http://127.0.0.1:8000/v1/"):
        reply = HttpAnswerer(url, api_key="key", client=client).ask("q")
        assert reply.answer.text == "json.loads [1]"
        assert reply.answer.citations == cited("json.loads")
        assert reply.index_version == "v2"


@pytest.mark.parametrize(
    ("response", "error"),
    [
        (httpx.Response(404, json={"error": {"message": "no such model"}}), PlinthError),
        (httpx.Response(200, json={"choices": []}), PlinthError),
        (httpx.Response(200, text="<html>"), PlinthError),
        (httpx.ConnectError("refused"), EnvironmentFaultError),
    ],
)
def test_what_is_no_answer_is_an_error(response: httpx.Response | Exception, error: type[PlinthError]) -> None:
    def respond(request: httpx.Request) -> httpx.Response:
        if isinstance(response, Exception):
            raise response
        return response

    with pytest.raises(error):
        HttpAnswerer("http://127.0.0.1:1", client=httpx.Client(transport=httpx.MockTransport(respond))).ask("q")


def test_the_shipped_suite() -> None:
    assert "stdlib" in suite_names()
    questions = load_suite("stdlib")
    counts = {(q.split, q.group): 0 for q in questions}
    for question in questions:
        counts[question.split, question.group] += 1
    for split in ("tune", "report"):
        assert {g: counts[split, g] for g in ("answerable", "near", "far")} == {"answerable": 40, "near": 10, "far": 10}


def write(path: Path, *rows: dict[str, object]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_suites_are_checked(tmp_path: Path) -> None:
    good = {"id": "1", "split": "tune", "question": "q", "accepted": ["a"], "answerable": True}
    bad: list[dict[str, object]] = [
        {**good, "split": "train"},
        {**good, "accepted": []},
        {**good, "question": " "},
        {"id": "1"},
    ]
    for row in bad:
        with pytest.raises(BadInputError, match=":1: not a question"):
            load_suite(write(tmp_path / "s.jsonl", row))
    with pytest.raises(BadInputError, match="both splits"):
        load_suite(write(tmp_path / "s.jsonl", good, {**good, "id": "2", "split": "report"}))
    with pytest.raises(BadInputError, match="twice"):
        load_suite(write(tmp_path / "s.jsonl", good, good))
    with pytest.raises(UsageError, match="stdlib"):
        load_suite("nosuch")
