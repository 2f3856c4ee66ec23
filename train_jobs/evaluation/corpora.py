"""The corpora that abstention is calibrated on, each with questions that it can and cannot answer.

The standard library's documentation on this machine, and public data sets below a data folder; the questions in
``calibration/*.jsonl`` are written by hand, those of SQuAD and SciFact come with the sets. No set is copied.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.core.errors import BadInputError
from cluster.core.records import Document
from data_jobs.sources.pydocs.documents import read_pydocs
from train_jobs.evaluation.folders import load_folders
from train_jobs.evaluation.questions import load_suite

QUESTIONS = Path(__file__).with_name("calibration")
GROUPS = ("answerable", "near", "far", "other", "impossible", "missing", "absent")
"""near: unanswerable but close. far: unrelated. other: about another subject of the same collection. impossible:
SQuAD's adversarial questions, which differ from an answerable one in a detail. missing: for what a page does not tell
of a thing that it speaks of. absent: about a language and its tools, or what its library lacks, asked of documented
code. The support model is not fitted on the last three, which it cannot tell apart."""
SEED = 7


@dataclass(frozen=True)
class Case:
    """A question to one corpus, and the group it belongs to (``GROUPS``); ``golds`` and ``title`` are SQuAD's."""

    group: str
    question: str
    golds: tuple[str, ...] = ()
    title: str = ""


@dataclass(frozen=True)
class Corpus:
    """Documents and cases. ``family``: corpora left out together when one of them is held out."""

    name: str
    family: str
    documents: tuple[Document, ...]
    cases: tuple[Case, ...]


def corpora(data: Path) -> Iterator[Corpus]:
    """Every calibration corpus.

    Args:
        data: folder with ``qa_squad2``, ``pretrain_docs_rustbook``, ``pretrain_docs_otel``, ``ret_scifact``,
            ``cls_banking77``.

    Raises:
        BadInputError: a set is missing.
    """
    squad = _Squad(data)
    bank = [row["text"] for row in _rows(data / "cls_banking77" / "test.jsonl")]
    far = [Case("far", row["question"]) for row in _rows(QUESTIONS / "unrelated.jsonl")]
    picker = random.Random(SEED)  # noqa: S311 (a reproducible sample, not a secret)
    far += [Case("far", row["question"]) for row in picker.sample(squad.answerable, 40)]
    far += [Case("far", text) for text in picker.sample(bank, 20)]
    tuned = [Case(q.group, q.question) for q in load_suite("stdlib") if q.split == "tune"]
    tuned += [Case(q.group, q.question) for q in load_suite(str(QUESTIONS / "stdlib_more.jsonl"))]
    tuned += [Case("answerable", q.question) for q in load_suite("stdlib_unasked") if q.split == "tune"]
    tuned += [Case("absent", q.question) for q in load_suite("stdlib_absent") if q.split == "tune"]
    yield Corpus("stdlib", "stdlib", tuple(read_pydocs()), tuple(tuned + far))
    for name in ("rustbook", "otel"):
        own = [
            Case("answerable" if r["answerable"] else "near", r["question"]) for r in _rows(QUESTIONS / f"{name}.jsonl")
        ]
        yield Corpus(name, name, tuple(_pages(data / f"pretrain_docs_{name}" / "docs.jsonl")), tuple(own + far))
    yield from _folders()
    for folder in load_folders():
        if folder.split == "tune":
            asked = [Case("answerable", question) for question, _ in folder.answerable]
            asked += [Case("missing", question) for question in folder.missing]
            yield Corpus(f"suite-{folder.name}", "folders", folder.documents, tuple(asked))
    yield from squad.corpora(picker)
    yield _scifact(data / "ret_scifact", picker, far)


class _Squad:
    """SQuAD 2.0: paragraphs as documents; questions about titles that are not in the corpus are unanswerable."""

    def __init__(self, data: Path) -> None:
        self.contexts = _rows(data / "qa_squad2" / "contexts.jsonl")
        here = {row["context_id"] for row in self.contexts}
        questions = [row for row in _rows(data / "qa_squad2" / "questions.jsonl") if row["context_id"] in here]
        self.answerable = [row for row in questions if not row["is_impossible"]]
        self.impossible = [row for row in questions if row["is_impossible"]]

    def corpora(self, picker: random.Random) -> Iterator[Corpus]:
        titles = sorted({row["title"] for row in self.contexts})
        for name, part in (("squad-even", titles[0::2]), ("squad-odd", titles[1::2])):
            yield self._corpus(name, part, picker, 150, 100)
        # One subject each: a small folder of documents, where most words of any question are unknown.
        for number, title in enumerate(titles[:: max(1, len(titles) // 6)][:6]):
            yield self._corpus(f"squad-small-{number}", [title], picker, 40, 40)

    def _corpus(self, name: str, titles: Sequence[str], picker: random.Random, own: int, other: int) -> Corpus:
        documents = tuple(
            Document(
                id=r["context_id"], title=r["title"].replace("_", " "), text=r["context"], source="", kind="record"
            )
            for r in self.contexts
            if r["title"] in titles
        )
        inside = [r for r in self.answerable if r["title"] in titles]
        outside = [r for r in self.answerable if r["title"] not in titles]
        trick = [r for r in self.impossible if r["title"] in titles]
        cases = [
            Case("answerable", r["question"], tuple(r["answers"]), r["title"]) for r in _sample(picker, inside, own)
        ]
        cases += [Case("other", r["question"]) for r in _sample(picker, outside, other)]
        cases += [Case("impossible", r["question"], title=r["title"]) for r in _sample(picker, trick, other)]
        cases += [Case("far", row["question"]) for row in _rows(QUESTIONS / "unrelated.jsonl")]
        return Corpus(name, "squad", documents, tuple(cases))


def _folders() -> Iterator[Corpus]:
    """Small folders of short documents, as people have them, with questions in other words than theirs."""
    far = tuple(Case("far", row["question"]) for row in _rows(QUESTIONS / "unrelated.jsonl"))
    for folder in json.loads((QUESTIONS / "folders.json").read_text(encoding="utf-8")):
        documents = tuple(
            Document(id=name, title=text.partition("\n")[0].lstrip("# "), text=text, source=name)
            for name, text in folder["documents"].items()
        )
        cases = [Case(group, question) for group in ("answerable", "near") for question in folder[group]]
        yield Corpus(f"folder-{folder['name']}", "folders", documents, (*cases, *far))


def _scifact(folder: Path, picker: random.Random, far: Sequence[Case]) -> Corpus:
    """Abstracts; claims that cite one of them count as answerable (they are statements, not questions)."""
    rows = _rows(folder / "corpus.jsonl")[:1500]
    documents = tuple(Document(r["_id"], r["title"], r["text"], "", kind="record") for r in rows if r["text"].strip())
    here = {document.id for document in documents}
    cited = set()
    for name in ("qrels.tsv", "qrels_train.tsv"):
        for line in (folder / name).read_text(encoding="utf-8").splitlines()[1:]:
            query, document, score = line.split("\t")
            if score != "0" and document in here:
                cited.add(query)
    claims = [r["text"] for r in _rows(folder / "queries.jsonl") if r["_id"] in cited]
    return Corpus(
        "scifact", "scifact", documents, (*(Case("answerable", c) for c in _sample(picker, claims, 100)), *far)
    )


def _pages(path: Path) -> Iterator[Document]:
    for row in _rows(path):
        name = row["id"].split(":", 1)[1]
        if row["text"].strip():
            yield Document(id=name, title=row["title"] or Path(name).stem, text=row["text"], source=name)


def _sample(picker: random.Random, rows: Sequence[Any], count: int) -> list[Any]:
    return picker.sample(list(rows), min(count, len(rows)))


def _rows(path: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    except OSError as error:
        raise BadInputError(f"cannot read {path}: {error}; --data is the folder that holds the data sets") from error
