"""Makes the fine-tuning and gate examples of a corpus on the cluster: questions by rules, passages by the real search.

The plan (which documents are asked about, how often, with which seed) depends on dataset and configuration only, and
each part of it is seeded by its number, so the rows do not depend on how many workers there are. This module only
arranges; ``train_jobs/examples`` and ``data_jobs/synthetic`` do the work.
"""

from __future__ import annotations

import json
import os
import posixpath
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import ray
from ray.exceptions import RayActorError, RayTaskError

from cluster.core.config import PlinthConfig
from cluster.core.errors import BadInputError, EnvironmentFaultError
from cluster.core.home import Home
from cluster.core.progress import Progress
from cluster.core.records import Document, Manifest
from cluster.core.run_keys import RunKey, sections_but
from cluster.core.sections.train import ARCHITECTURE, LORA, PACE, PRIVACY, QUESTIONS, SIZE, STEPS, VERDICT
from cluster.core.storage import Store
from cluster.ray_errors import plain
from data_jobs.corpus.dataset import read_documents
from data_jobs.corpus.splits import is_held_out
from data_jobs.governance.policies import check_open
from data_jobs.governance.tombstones import read_tombstones
from data_jobs.synthetic.writer import Asked, Synonyms, Writer, summary_sentence
from data_jobs.tasks import worker_cpus
from train_jobs.examples.asked_again import AskedAgain
from train_jobs.examples.foreign_questions import foreign_questions
from train_jobs.examples.rows import Row, RowMaker, families, saying_the_same, thinned

KIND = "examples"
PARTS = 24
ANSWERABLE, LEFT_OUT = 0.58, 0.33  # shares of the training rows; the rest is foreign
# Most of the questions asked that are documents' own: for training as many as there are, since only they teach what
# evidence people's own words leave; in the gate fewer, since on most of them nothing but the search decides.
OWN = {"train": 0.6, "held_out": 0.35}
# Versions of a training row: one as asked, the others with fewer words in the question. An answerable row gives all of
# them, another one of them: a model that sees as many unanswerable questions as answerable ones abstains on a quarter
# of what it could answer, and fewer different ones teach it less.
VERSIONS = 3
SPARE = 1.6  # questions asked per row wanted: not every search finds its document
HIDDEN = 3  # one in so many of a document's own questions is taken out of the index and asked
POINT_TOKENS = 8  # left free in the context for what the model writes
MIN_PER_DOCUMENT = 2
# Dataset, index and tokenizer are inputs; how the index is searched and what an answer is are settings.
KEY = RunKey(
    "examples", (__name__,),
    inside=(
        "train.name", "train.examples", "train.held_out", "train.seed", "train.context_tokens", *QUESTIONS, "answer.*",
        "retrieval.*",
    ),
    outside=(
        *sections_but("train", "gate", "answer", "retrieval"), *VERDICT, *SIZE, *ARCHITECTURE, *LORA, *STEPS,
        *PACE, *PRIVACY, "train.vocab_size",
    ),
)  # fmt: skip


def make_examples(
    config: PlinthConfig, store: Store, dataset: Manifest, index: Manifest, tokenizer: Manifest, progress: Progress,
    worth_it: Callable[[], None] | None = None,
) -> Manifest:  # fmt: skip
    """Make and publish the examples ``config.train.name``; ray must be connected.

    The artefact holds ``train.jsonl`` and ``held_out.jsonl`` (rows as ``examples.rows.Row``; held-out rows are about
    held-out documents only, train rows about the others only) and ``report.json``. An identical earlier run is
    returned. ``worth_it`` is called before anything is made, and may raise.

    Raises:
        BadInputError: fewer documents than ``train.min_documents``, or none that a question can be made about.
        PolicyRefusedError: not everybody may read all of them, and ``data.train_labelled`` is off.
        EnvironmentFaultError: storage full, or every worker died.
    """
    began = time.monotonic()
    if not config.data.train_labelled:
        check_open(dataset, index)
    handed = {"train": config.train, "gate": config.gate, "answer": config.answer, "retrieval": config.retrieval}
    settings: dict[str, Any] = {name: KEY.settings(section) for name, section in handed.items()}
    if forgotten := read_tombstones(store):
        settings["forgotten"] = forgotten.key
    inputs = {part: f"{m.name}@{m.version}" for part, m in
              (("dataset", dataset), ("index", index), ("tokenizer", tokenizer))}  # fmt: skip
    run_key = KEY(inputs=inputs, config=settings)
    if found := store.find_run(run_key):
        return found
    if worth_it is not None:
        worth_it()
    documents = read_documents(store, dataset)
    if len(documents) < config.train.min_documents:
        raise BadInputError(
            f"{len(documents)} documents are too few to train on (train.min_documents={config.train.min_documents}): "
            "`quote` serves alone; add documents, or lower the limit",
            documents=len(documents),
        )
    parts = plan(documents, config)
    progress.stage("make examples", sum(len(part.jobs) for part in parts), "documents")
    work = Work(config, store.uri, index, tokenizer)
    made: dict[int, list[Row]] = {}
    for part, rows in _over_parts(work, parts):
        made[part.number] = rows
        progress.advance(len(part.jobs))
    train, held_out = _chosen([row for number in sorted(made) for row in made[number]], config)
    if not train or not held_out:
        raise BadInputError(
            f"no question could be made about {'any document' if not train else 'the documents held out'} of "
            f"{dataset.name}: they hold no sentences that read as such; `quote` serves alone"
        )
    staging = store.staging(run_key)
    for name, rows in (("train", train), ("held_out", held_out)):
        body = "".join(json.dumps(row.to_dict(), ensure_ascii=False) + "\n" for row in rows)
        store.write(posixpath.join(staging, f"{name}.jsonl"), body.encode())
    report = {"train": _report(train), "held_out": _report(held_out)}
    store.write(posixpath.join(staging, "report.json"), json.dumps(report, indent=1, sort_keys=True).encode())
    counts = {"train": len(train), "held_out": len(held_out), "seconds": round(time.monotonic() - began, 1)}
    progress.counts(train=len(train), held_out=len(held_out))
    return store.publish(
        KIND, config.train.name, staging, run_key=run_key, inputs=inputs, config=settings, counts=counts
    )


# -- the plan ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Job:
    """Questions to ask about one document: ``own`` of its own, ``made`` by rules. ``family``: what must be left out
    with it."""

    document: Document
    split: str
    own: tuple[str, ...]
    made: int
    family: tuple[str, ...]


@dataclass(frozen=True)
class Part:
    """A portion of the work with a seed of its own; ``foreign``: how many foreign questions, per split."""

    number: int
    of: int
    seed: int
    jobs: tuple[Job, ...]
    left_out: dict[str, float]  # per split, the chance that a question is also asked without its document
    foreign: dict[str, int]


def hidden_questions(document: Document | Sequence[str]) -> tuple[str, ...]:
    """Those of a document's own questions that are taken out of the index to be asked: asked of an index that knows
    them, they would find themselves. The last of every three; a document that has fewer keeps them all, since without
    any it would be harder to find than it ever is in the service."""
    own = tuple(document.questions if isinstance(document, Document) else document)
    return own[HIDDEN - 1 :: HIDDEN]


def wanted(config: PlinthConfig) -> dict[str, tuple[int, int, int]]:
    """Per split: answerable, left out and foreign rows wanted."""
    rows = config.train.examples
    answerable, left_out = round(rows * ANSWERABLE), round(rows * LEFT_OUT)
    half = config.gate.unanswerable // 2
    return {
        "train": (answerable, left_out, rows - answerable - left_out),
        "held_out": (config.gate.questions, config.gate.unanswerable - half, half),
    }


def plan(documents: Sequence[Document], config: PlinthConfig) -> list[Part]:
    """Which documents are asked about, and how often: a pure function of the dataset and the configuration."""
    picker = random.Random(config.train.seed)  # noqa: S311 (reproducible, not a secret)
    related = families(documents)
    usable = [document for document in documents if summary_sentence(document)]
    jobs: list[Job] = []
    left_out: dict[str, float] = {}
    for split, (answerable, without, _) in wanted(config).items():
        held = split == "held_out"
        mine = [document for document in usable if is_held_out(document.id, config.train.held_out) == held]
        picker.shuffle(mine)
        asks = round(max(answerable, without) * SPARE)
        left_out[split] = min(1.0, SPARE * without / max(1, (1 - OWN[split]) * asks))
        own = _spread([hidden_questions(document) for document in mine], round(OWN[split] * asks))
        rest = asks - sum(len(part) for part in own)
        for document, asked in zip(mine, own, strict=True):
            number = min(max(MIN_PER_DOCUMENT - len(asked), -(-asks // max(1, len(mine)))), rest)
            rest -= number
            if asked or number:
                jobs.append(Job(document, split, asked, number, tuple(sorted(related[document.id]))))
    parts = min(PARTS, max(1, len(jobs)))
    return [
        Part(
            number, parts, config.train.seed * 100_003 + number, tuple(jobs[number::parts]), left_out,
            {split: -(-amounts[2] // parts) for split, amounts in wanted(config).items()},
        )
        for number in range(parts)
    ]  # fmt: skip


def _spread(questions: Sequence[tuple[str, ...]], most: int) -> list[tuple[str, ...]]:
    """At most ``most`` of all documents' questions, one of each document before a second of any."""
    taken = [0] * len(questions)
    left = most
    for turn in range(max(map(len, questions), default=0)):
        for place, own in enumerate(questions):
            if left and len(own) > turn:
                taken[place] += 1
                left -= 1
    return [own[:number] for own, number in zip(questions, taken, strict=True)]


def _chosen(rows: Sequence[Row], config: PlinthConfig) -> tuple[list[Row], list[Row]]:
    """As many rows of each kind as wanted, those for training in their versions; each split in random order."""
    picker = random.Random(config.train.seed)  # noqa: S311
    chosen = {}
    for split, amounts in wanted(config).items():
        kept: list[Row] = []
        for amount, kinds in zip(amounts, (None, "left_out", "foreign"), strict=True):
            pool = [r for r in rows if r.split == split and (r.answerable if kinds is None else r.kind == kinds)]
            picker.shuffle(pool)
            kept += pool[:amount]
        if split == "train":
            kept = [version for row in kept for version in _versions(row, picker)]
        picker.shuffle(kept)
        chosen[split] = kept
    return chosen["train"], chosen["held_out"]


def _versions(row: Row, picker: random.Random) -> list[Row]:
    kinds = range(VERSIONS) if row.answerable else (picker.randrange(VERSIONS),)
    return [thinned(row, picker) if kind else row for kind in kinds]


def _report(rows: Sequence[Row]) -> dict[str, Any]:
    return {
        "rows": len(rows),
        "kinds": dict(sorted(Counter(row.kind for row in rows).items())),
        "documents": len({row.document for row in rows if row.document}),
        "completions": dict(sorted(Counter(row.completion for row in rows).items())),
    }


def _of(job: Job, row: Row | None) -> Row | None:
    return row and replace(row, source=job.document.source)


# -- the work ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Work:
    """What every worker needs to load."""

    config: PlinthConfig
    store_uri: str
    index: Manifest
    tokenizer: Manifest


class ExampleWorker:
    """Holds index, embedder and tokenizer, and makes the rows of one part after the other."""

    def __init__(self, work: Work) -> None:
        from tokenizers import Tokenizer

        from data_jobs.retrieval.embedder import Embedder, load_embedder
        from data_jobs.retrieval.rerank import load_reranker
        from data_jobs.retrieval.search import Searcher
        from data_jobs.retrieval.snapshot import Snapshot

        os.nice(5)  # the service answers meanwhile
        store, cache = Store(work.store_uri), Home.from_env().folder("cache")
        config = work.config
        embedder = cast(Embedder, AskedAgain(load_embedder(config.index, threads=1)))
        snapshot = Snapshot.load(store.fetch(work.index, cache), work.index, embedder.asks)
        reranker = load_reranker(config.retrieval.reranker)
        self.searcher = Searcher(without_hidden_questions(snapshot), embedder, config.retrieval, reranker)
        forgotten = read_tombstones(store)
        self.searcher.hide({c.document for c in snapshot.chunks if forgotten.covers(c.document, "", c.source)})
        self.synonyms = Synonyms.named(self.searcher.synonyms)
        encode = Tokenizer.from_file(str(store.fetch(work.tokenizer, cache) / "tokenizer.json")).encode
        budget = config.train.context_tokens - POINT_TOKENS
        self.rows = RowMaker(config.answer, lambda t: len(encode(t, add_special_tokens=False).ids), budget)

    def make(self, part: Part) -> list[Row]:
        """All rows of a part."""
        picker = random.Random(part.seed)  # noqa: S311
        writer = Writer(self.searcher.lexical.weight, self.synonyms, picker)
        found = [row for job in part.jobs for row in self._about(job, writer, part.left_out[job.split], picker)]
        for split, amount in part.foreign.items():
            questions = foreign_questions(split == "held_out", self._speaks_of, random.Random(0))  # noqa: S311
            for question in questions[part.number :: part.of][:amount]:
                found.append(self.rows.unanswerable(question, self.searcher.search(question), split))
        return [row for row in found if row is not None]

    def _about(self, job: Job, writer: Writer, left_out: float, picker: random.Random) -> Iterator[Row | None]:
        for asked in writer.questions(job.document, len(job.own) + job.made, job.own):
            retrieval = self.searcher.search(asked.question)
            yield _of(job, self.rows.answerable(asked, retrieval, job.split))
            # A question in other words than its document's is often answered by another document too, so that nothing
            # could be called right where its own is gone; one made from a sentence's words is not.
            if asked.manner != "own" and picker.random() < left_out:
                yield _of(job, self._left_out(asked, job, saying_the_same(asked, retrieval)))

    def _left_out(self, asked: Asked, job: Job, same: set[str]) -> Row | None:
        retrieval = self.searcher.search(asked.question, without={*job.family, *same})
        return self.rows.unanswerable(asked.question, retrieval, job.split, asked)

    def _speaks_of(self, stems: frozenset[str]) -> bool:
        """Whether some chunk holds all these index terms."""
        lexical = self.searcher.lexical
        return bool(np.logical_and.reduce([lexical.scores({term: 1.0}) > 0 for term in stems]).any())


def without_hidden_questions(snapshot: Any) -> Any:
    """The snapshot as if its documents had never been known to answer their hidden questions."""
    from data_jobs.retrieval.snapshot import QUESTION

    hidden = [set(hidden_questions(own)) for own in snapshot.questions]
    if not any(hidden):
        return snapshot
    keep = np.ones(len(snapshot.unit_kind), dtype=bool)
    for unit in np.flatnonzero(snapshot.unit_kind == QUESTION):
        chunk = int(snapshot.unit_chunk[unit])
        keep[unit] = snapshot.questions[chunk][int(snapshot.unit_start[unit])] not in hidden[chunk]
    columns = {name: getattr(snapshot, name)[keep] for name in
               ("unit_chunk", "unit_kind", "unit_start", "unit_end", "vectors")}  # fmt: skip
    known = [tuple(q for q in own if q not in gone) for own, gone in zip(snapshot.questions, hidden, strict=True)]
    dense = {kind: stored for kind, stored in snapshot.dense.items() if kind != QUESTION}
    return replace(snapshot, questions=known, dense=dense, segments=(), **columns)


def _over_parts(work: Work, parts: Sequence[Part]) -> Iterator[tuple[Part, list[Row]]]:
    """Run every part on a pool of actors, as they finish. An actor that dies comes back and does its part again."""
    cpus = int(ray.cluster_resources().get("CPU", 1))
    environment = {"env_vars": {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}}
    options = {"num_cpus": worker_cpus(), "max_restarts": 2, "max_task_retries": 2, "runtime_env": environment}
    actor: Any = ray.remote(ExampleWorker).options(**options)
    pool = [actor.remote(work) for _ in range(max(1, min(cpus, len(parts))))]
    queue = list(reversed(parts))
    try:
        running = {
            worker.make.remote(part): (worker, part) for worker in pool if (part := queue.pop() if queue else None)
        }
        while running:
            done, _ = ray.wait(list(running))
            worker, part = running.pop(done[0])
            yield part, ray.get(done[0])
            if queue:
                following = queue.pop()
                running[worker.make.remote(following)] = (worker, following)
    except RayActorError as error:
        raise EnvironmentFaultError(
            "a worker that makes examples kept dying (out of memory?): see `plinth logs`; a smaller `train.examples` "
            "or fewer CPUs need less memory"
        ) from error
    except RayTaskError as error:
        raise plain(error, "making examples") from None
    finally:
        for worker in pool:
            ray.kill(worker)
