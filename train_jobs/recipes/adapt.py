"""Search that learns a corpus: questions of an index's passages, what is learnt of them, a verdict, a new version.

Each step publishes what it made under a key of its inputs, so that a killed run goes on where it stopped and an
identical one makes nothing again: ``adaptation-questions``, ``question-maps`` (trained through Ray Train like every
recipe), ``adaptations`` (the verdict, kept whether it passed or not) and the version of the index.

Why a map of the question's vector: documents keep theirs, so that 5,000 chunks need no new embedding (minutes), the
index is derived in seconds, and undoing it is moving an alias. What it can gain is small; see LOG.md.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from actors.policies.adapting import decide, level_of
from cluster.core.config import PlinthConfig
from cluster.core.errors import BadInputError
from cluster.core.home import Home
from cluster.core.progress import Progress
from cluster.core.records import Document, Manifest
from cluster.core.run_keys import RunKey
from cluster.core.storage import INDEXES, LIVE, Collections, Store
from cluster.core.telemetry import log_event
from data_jobs.corpus.dataset import read_documents
from data_jobs.governance.policies import check_open, check_use
from data_jobs.governance.tombstones import read_tombstones
from data_jobs.indexing.adapted import adapted_index, stock_of
from data_jobs.retrieval.question_map import FILE, QuestionMap
from data_jobs.retrieval.question_vectors import QuestionVectors
from train_jobs.adaptation import asking, judging
from train_jobs.adaptation.asking import A_MINUTE, HELD_BACK, JUDGE, LEARN, TUNE, Trip, questions_of, side_of
from train_jobs.models.encoders import QuestionMapSpec
from train_jobs.publishing.adapt_card import before_and_after, render
from train_jobs.recipes.training import (
    KEY_INSIDE,
    KEY_OUTSIDE,
    Finished,
    Training,
    begin,
    carry_out,
    request,
    steps_over,
)

if TYPE_CHECKING:
    from data_jobs.retrieval.search import Searcher
    from train_jobs.launch import TrainingWorkers
    from train_jobs.trainer.unfinished import CodeChange

QUESTIONS, KIND, VERDICTS = "adaptation-questions", "question-maps", "adaptations"
TRIPS, REPORT, CARD, PICTURE = "trips.json", "report.json", "card.md", "before_and_after.png"
ROWS = 64  # questions of a step
PART = 500  # questions asked between two files that a killed run finds again
LEAST = 20  # questions to learn from
USED = tuple(f"retrieval.{name}" for name in ("candidates", "synonyms", "reranker", "rerank"))
KEY = RunKey(
    "adapt", (__name__,), inside=(*KEY_INSIDE, "adapt.*", *USED),
    outside=(*(name for name in KEY_OUTSIDE if name not in ("adapt.*", "retrieval.*")),
             "retrieval.passages", "retrieval.reader", "retrieval.refresh_s"),
)  # fmt: skip


@dataclass(frozen=True)
class Subject:
    """What is adapted: an index without what it learnt before, and the documents it was made of."""

    config: PlinthConfig
    store: Store
    index: Manifest
    dataset: Manifest

    @property
    def inputs(self) -> dict[str, str]:
        """Versions of both."""
        return {"index": f"{self.index.name}@{self.index.version}",
                "dataset": f"{self.dataset.name}@{self.dataset.version}"}  # fmt: skip

    @property
    def settings(self) -> dict[str, Any]:
        """What decides every step beside its inputs."""
        return {**KEY.settings(self.config.adapt), "retrieval": KEY.settings(self.config.retrieval),
                "forgotten": read_tombstones(self.store).key}  # fmt: skip

    @cached_property
    def documents(self) -> list[Document]:
        """Those of the dataset that were not forgotten."""
        return read_documents(self.store, self.dataset)

    @cached_property
    def vectors(self) -> QuestionVectors:
        """The embedder's vectors of questions; many at once cost half."""
        from data_jobs.retrieval.embedder import load_embedder

        return QuestionVectors(load_embedder(self.config.index, threads=self.config.serve.embed_threads))

    @cached_property
    def searcher(self) -> Searcher:
        """Stock search over the index; what was forgotten since is hidden."""
        from data_jobs.retrieval.rerank import load_reranker
        from data_jobs.retrieval.search import Searcher
        from data_jobs.retrieval.snapshot import Snapshot

        embedder = self.vectors.embedder
        folder = self.store.fetch(self.index, Home.from_env().folder("cache"))
        snapshot = replace(Snapshot.load(folder, self.index, embedder.asks), question_map=None)
        section = self.config.retrieval
        searcher = Searcher(snapshot, embedder, section, load_reranker(section.reranker), asked=self.vectors)
        searcher.hide({chunk.document for chunk in snapshot.chunks} - {d.id for d in self.documents})
        return searcher


def find_subject(config: PlinthConfig, store: Store, collection: str) -> Subject:
    """The live index of a collection as it was before it learnt anything, and its dataset.

    Raises:
        BadInputError: there is no such collection, or its documents are in no dataset.
        PolicyRefusedError: not everybody may read them, or they may not be learnt from.
    """
    name = Collections(store, config.index.name).find(collection)
    index = store.manifest(INDEXES, name, LIVE)
    stock, _, version = stock_of(index).partition("@")
    if version != index.version and any(made.version == version for made in store.versions(INDEXES, stock)):
        index = store.manifest(INDEXES, stock, version)
    check_open(index)
    named, _, version = index.inputs.get("dataset", "").partition("@")
    if not version:
        raise BadInputError(
            f"{name}@{index.version} was made of no dataset (`plinth index watch` keeps it), and questions are made "
            "of one: build an index with `plinth index build`"
        )
    dataset = store.manifest("datasets", named, version)
    check_use(dataset, "fine-tuning", config.data)
    return Subject(config, store, index, dataset)


def look_ahead(subject: Subject, minutes: float | None) -> dict[str, Any]:
    """What `plinth adapt --dry-run` says: sizes, the split, and the minutes it may take. Starts nothing."""
    section, chunks = subject.config.adapt, int(subject.index.counts["chunks"])
    sides = Counter(side_of(document.id, section.held_out) for document in subject.documents)
    most = min(chunks * section.per_passage, most_questions(minutes) or chunks * section.per_passage)
    return {
        **subject.inputs, "documents": len(subject.documents), "chunks": chunks,
        **{f"documents_to_{side}": sides[side] for side in asking.SIDES},
        "questions_at_most": most, "minutes_at_most": round(1 + most / A_MINUTE * max(0.2, chunks / 5000), 1),
    }  # fmt: skip


def most_questions(minutes: float | None) -> int:
    """How many questions so many minutes allow; 0, no limit, for None. Never by the clock: a run must be repeatable."""
    return 0 if minutes is None else max(1, round(minutes * A_MINUTE))


def adapt(
    subject: Subject, progress: Progress, minutes: float | None = None, people: Path | None = None,
    workers: TrainingWorkers | None = None, code_change: CodeChange = None,
) -> Manifest:  # fmt: skip
    """Learn, judge, and where the gate lets it, have the collection answer so; returns the verdict, which counts
    whether it ``passed``. Needs a Ray connection where no ``workers`` are given.

    Args:
        minutes: fewer questions where they would take longer.
        people: a JSONL file of {question, document, answers?} that judges too.

    Raises:
        BadInputError: too few questions can be made, or a line of ``people`` is bad.
        PlinthError: what ``carry_out`` raises.
    """
    known = {document.id for document in subject.documents}
    judges = judging.asked_by_people(people, known) if people else []
    questions = make_questions(subject, progress, most_questions(minutes))
    learnt = learn(subject, questions, progress, workers, code_change)
    verdict = judge(subject, questions, learnt, judges, progress)
    if verdict.counts["passed"]:
        progress.stage("publish")
        store = subject.store
        body = store.read(posixpath.join(store.artefact(learnt), FILE))
        index = adapted_index(store, subject.index, body, verdict)
        Collections(store, subject.config.index.name).go_live(
            index.name, index.version, why=f"adapt {verdict.name}@{verdict.version}"
        )
    return verdict


def make_questions(subject: Subject, progress: Progress, most: int = 0) -> Manifest:
    """Make the questions, have search find each of them again, and publish both sides."""
    store, section = subject.store, subject.config.adapt
    key = KEY(step="questions", inputs=subject.inputs, config=subject.settings, most=most)
    if found := store.find_run(key):
        return found
    progress.stage("make questions")
    chunks = subject.searcher.snapshot.chunks
    asked, counted = questions_of(subject.documents, chunks, section, subject.searcher.synonyms, most)
    progress.stage("ask them back", len(asked), "questions")
    staging, trips = store.staging(f"{key}-parts"), list[Trip]()
    for start in range(0, len(asked), PART):
        path = posixpath.join(staging, f"part-{start:08d}.json")
        if store.exists(path):
            part = [Trip.from_dict(row) for row in json.loads(store.read(path))]
            progress.advance(len(part))
        else:
            part = []
            subject.vectors.prepare([one.question for one in asked[start : start + PART]])
            for trip in asking.round_trips(subject.searcher, asked[start : start + PART], section):
                part.append(trip)
                progress.advance()
            store.write(path, json.dumps([trip.to_dict() for trip in part]).encode())
        trips += part
    folder = store.staging(key)
    store.write(posixpath.join(folder, TRIPS), json.dumps([trip.to_dict() for trip in trips]).encode())
    kept = Counter(side_of(trip.asked.document, section.held_out) for trip in trips if trip.kept)
    counts = {**counted, "made": len(trips), "not_found_again": sum(not trip.kept for trip in trips),
              **{f"questions_to_{side}": kept[side] for side in asking.SIDES}}  # fmt: skip
    made = store.publish(QUESTIONS, subject.index.name, folder, run_key=key, inputs=subject.inputs,
                         config=subject.settings, counts=counts)  # fmt: skip
    store.fs.rm(staging, recursive=True)
    return made


def trips_of(store: Store, questions: Manifest) -> list[Trip]:
    """The questions of a verified artefact."""
    store.verify(questions)
    return [Trip.from_dict(row) for row in json.loads(store.read(posixpath.join(store.artefact(questions), TRIPS)))]


def learn(
    subject: Subject, questions: Manifest, progress: Progress, workers: TrainingWorkers | None = None,
    code_change: CodeChange = None,
) -> Manifest:  # fmt: skip
    """Train the map and publish it.

    Raises:
        BadInputError: too few questions were found again.
    """
    store, config = subject.store, subject.config
    section, kept = config.adapt, questions.counts
    few = {side: kept[f"questions_to_{side}"] for side in (LEARN, TUNE)}
    if few[LEARN] < LEAST or not few[TUNE]:
        raise BadInputError(
            f"{subject.inputs['dataset']}: rules made {few[LEARN]} questions to learn from and {few[TUNE]} to look at "
            f"meanwhile that search found again; {LEAST} and 1 are needed: the corpus is too small, or no prose"
        )
    inputs = {"questions": f"{questions.name}@{questions.version}", **subject.inputs}
    asked = request(
        KEY, "asked_passages", KIND, subject.index.name, inputs, config.train, code_change,
        epochs=section.epochs, rate=section.learning_rate, rank=section.rank,
    )  # fmt: skip
    if (found := begin(store, asked)) is not None:
        return found
    progress.stage("embed questions")
    snapshot, embedder = subject.searcher.snapshot, subject.searcher.embedder
    vectors = snapshot.vectors[snapshot.unit_kind == 0]
    trips = trips_of(store, questions)
    arrays = asking.arrays_of(trips, vectors, section.held_out, lambda texts: embedder.encode(texts, kind="query"))
    steps = steps_over(config.train, few[LEARN], ROWS, section.epochs)
    return carry_out(
        Training(
            asked, {"questions": few[LEARN]}, QuestionMapSpec(embedder.dim, section.rank), arrays, 0, None,
            section.learning_rate, steps, lambda finished: (files_of(finished), {}), few[LEARN], ROWS, {"rows": ROWS},
        ),
        config.train, store, progress, workers,
    )  # fmt: skip


def files_of(finished: Finished) -> dict[str, bytes]:
    """The map as an index holds it."""
    weights = {name: np.asarray(tensor.float().numpy(), dtype=np.float32) for name, tensor in finished.weights.items()}
    return {FILE: QuestionMap(weights["down"], weights["up"]).to_bytes()}


def judge(
    subject: Subject, questions: Manifest, learnt: Manifest, people: Sequence[judging.ToJudge], progress: Progress
) -> Manifest:
    """Ask stock search and what was learnt the same questions, decide, and publish the verdict with its card.

    A refused one is published too: it counts as a try.
    """
    store, section = subject.store, subject.config.adapt
    asked = hashlib.sha256(repr(list(people)).encode()).hexdigest()[:12]
    inputs = {"map": f"{learnt.name}@{learnt.version}", "questions": f"{questions.name}@{questions.version}",
              **subject.inputs, **({"people": asked} if people else {})}  # fmt: skip
    key = KEY(step="verdict", inputs=inputs, config=subject.settings)
    if found := store.find_run(key):
        return found
    learnt_map = QuestionMap.from_bytes(
        store.read(posixpath.join(store.artefact(learnt), FILE)), subject.searcher.embedder.dim
    )
    tries = 1 + tries_before(store, subject)
    made = [
        judging.ToJudge.of(trip.asked) for trip in trips_of(store, questions)
        if trip.kept and side_of(trip.asked.document, section.held_out) == JUDGE
    ]  # fmt: skip
    own = [one for one in people if side_of(one.document, section.held_out) == JUDGE]
    shipped, general = judging.shipped_set(subject.config, subject.searcher.embedder)
    progress.stage("judge", len(made) + len(own) + len(general), "questions")
    judged = {
        name: judging.ask_both(searcher, learnt_map, rows, progress.advance)
        for name, searcher, rows in (
            ("held_out", subject.searcher, made), ("people", subject.searcher, own), ("shipped", shipped, general)
        )
    }  # fmt: skip
    judged["otherwise"] = [one for one in judged["held_out"] if one.manner == HELD_BACK]
    sets = {name: judging.figures(rows, level_of(tries)) for name, rows in judged.items() if rows or name != "people"}
    if people and not own:
        sets["people"] = judging.figures([])
    report: dict[str, Any] = {
        "collection": subject.index.name, "inputs": inputs, "tries": tries, **sets,
        "counts": {**questions.counts, **({"people_not_held_out": len(people) - len(own)} if people else {})},
    }  # fmt: skip
    report["decision"] = decide(report, section).to_dict()
    report["judged"] = {name: judging.rows_of(rows) for name, rows in judged.items() if name != "otherwise"}
    return publish_verdict(store, subject, report, key)


def tries_before(store: Store, subject: Subject) -> int:
    """How many verdicts there were on the same documents, whatever they said; the newest counts those that are gone."""
    wanted = subject.inputs["dataset"]
    made = (one for one in store.versions(VERDICTS, subject.index.name) if one.inputs.get("dataset") == wanted)
    return max((int(one.counts["tries"]) for one in made), default=0)


def publish_verdict(store: Store, subject: Subject, report: Mapping[str, Any], key: str) -> Manifest:
    """Report, card and picture as one artefact."""
    folder, decision = store.staging(key), report["decision"]
    title = f"Search of {report['collection']}: {'passed' if decision['passed'] else 'refused'}"
    files: dict[str, Callable[[], bytes]] = {
        REPORT: lambda: json.dumps(report, indent=1, sort_keys=True).encode(),
        CARD: lambda: render(report).encode(), PICTURE: lambda: before_and_after(report, title),
    }  # fmt: skip
    for name, body in files.items():
        store.write(posixpath.join(folder, name), body())
    gains = {
        f"gain_{name}": report[name]["mrr"]["mean"] for name in ("held_out", "people", "shipped") if name in report
    }
    counts = {"passed": decision["passed"], "tries": report["tries"],
              **{name: None if value is None else round(value, 4) for name, value in gains.items()}}  # fmt: skip
    made = store.publish(VERDICTS, subject.index.name, folder, run_key=key, inputs=dict(report["inputs"]),
                         config=subject.settings, counts=counts)  # fmt: skip
    log_event("train", "adaptation_judged", name=made.name, version=made.version, counts=made.counts)
    return made
