"""The suite ``alike``: what it gives to answer a question by the answer to one that is alike, and what a cache gives.

Labelled questions are put to an index with a section for each label. Whoever gets an answer that was made for a
question of another label got a *wrong* one; a *worse* one, where it does not cite the section of the question's label
first and the question's own answer would have. By likeness alone, and as the gateway does it
(``serve_apps.gateway.alike``): the least cosine is chosen on the rows of ``train.jsonl`` and judged by those of
``test.jsonl``. Then a stream of requests goes through a gateway in this process.
"""

from __future__ import annotations

import asyncio
import os
from array import array
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cluster.cli.evaluation.in_process import Served, gateway_over, serve_all
from cluster.core.errors import BadInputError
from cluster.core.sections.cache import CacheSection
from data_jobs.retrieval.embedder import load_embedder
from data_jobs.retrieval.passage_reader import load_passage_reader
from serve_apps.gateway.alike import WHOLE, AskedQuestion, Told, Wording
from serve_apps.gateway.request_log import HIT
from train_jobs.evaluation.faq import BANK, Outcome, ask, load_sections
from train_jobs.evaluation.local_index import searcher_over
from train_jobs.evaluation.metrics import Rate
from train_jobs.evaluation.paraphrases import APART, SEED, Held, Labelled, judged, picture, requests

if TYPE_CHECKING:
    from cluster.cli.evaluation.suites import Run

Shown = tuple[str, Sequence[str], Sequence[Sequence[Any]], Sequence[str]]  # what a ``Table`` is made of
OWN_SECTIONS = "sections.md"
CHOSEN_ON, JUDGED_ON = "train", "test"
QUESTIONS = 1000  # of each
ALONE, SERVED = "likeness alone", "as served"
REQUESTS, REPEATS = 1000, (0.8, 0.9)
SHOWN = (0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


def score(run: Run) -> tuple[dict[str, Any], list[Shown]]:
    """Both ways with their curves, and the stream.

    Raises:
        BadInputError: a file is missing, lacks a field, or has a label without a section.
    """
    folder, config = run.labelled(), run.config
    own = folder / OWN_SECTIONS
    sections = load_sections(own if own.exists() else BANK)
    splits = {name: _read(folder / f"{name}.jsonl", {one.id for one in sections}) for name in (CHOSEN_ON, JUDGED_ON)}
    threads = len(os.sched_getaffinity(0))
    embedder, vectors = load_embedder(config.index, threads), run.home.folder("cache") / "vectors"
    searcher = searcher_over(sections, config.index, config.retrieval, embedder, vectors, "alike")
    searcher.reader = load_passage_reader(config.retrieval.reader, threads)
    asked = {}
    for name, data in splits.items():
        run.progress.stage(f"asking {name}", len(data.texts), "questions")
        asked[name] = ask(data, searcher, lambda texts: embedder.encode(texts, kind="query"), config.answer,
                          run.progress.advance)  # fmt: skip
    ways = {
        ALONE: judged(alone(asked[CHOSEN_ON]), alone(asked[JUDGED_ON])),
        SERVED: judged(as_served(asked[CHOSEN_ON]), as_served(asked[JUDGED_ON])),
    }
    chosen = ways[SERVED]["chosen"]["wrong"]
    alike = config.serve.cache.alike or (chosen["alike"] if chosen else 0.0)
    section = config.serve.model_copy(update={"cache": CacheSection(on=True, alike=alike)})
    streams = []
    for repeat in REPEATS:
        stream = requests(splits[JUDGED_ON].texts, REQUESTS, repeat, SEED)
        run.progress.stage(f"a stream with {repeat:.0%} repeats", len(stream), "requests")
        gateway = gateway_over(searcher, embedder, config, section)
        streams.append(_told(repeat, asyncio.run(serve_all(gateway, stream))))
        run.progress.advance(len(stream))
    plot = run.home.folder("cache") / "alike.png"
    curves = {f"{way}, {name}": points for way, found in ways.items() for name, points in found["curves"].items()}
    plot.write_bytes(picture(curves))
    result = {
        "suite": "alike", "questions": QUESTIONS, "reader": searcher.reader.reads,
        "repeats": {name: data.repeats for name, data in splits.items()},
        "right_section": {name: _right(found).to_dict() for name, found in asked.items()},
        "ways": ways, "alike": alike, "streams": streams, "plot": str(plot),
    }  # fmt: skip
    return result, [*_curves(ways, plot), _streams(streams, alike)]


def alone(asked: Sequence[Outcome]) -> Held:
    """Any question is given any answer that is worth keeping."""
    vectors = np.stack([one.vector for one in asked]).astype(np.float32)
    kept = np.array([_is_kept(one) for one in asked])
    right = np.array([[_is_right(other, one.label) for other in asked] for one in asked])
    cosines = np.where(kept, vectors @ vectors.T, np.float32(APART))
    return Held(tuple(one.label for one in asked), cosines, right.diagonal()[:, None] & ~right)


def as_served(asked: Sequence[Outcome]) -> Held:
    """A question is given an answer that the gateway kept and would give to it."""
    held, noted = alone(asked), [_noted(one) for one in asked]
    given = [[now is not None and before is not None and before.same(now) for before in noted] for now in noted]
    return replace(held, cosines=np.where(np.array(given), held.cosines, np.float32(APART)))


def _noted(one: Outcome) -> AskedQuestion | None:
    """As the gateway notes it: nothing that it would not keep, as both are answered by quoting."""
    told = Told.of(one.found, one.made)
    if told is None:
        return None
    return AskedQuestion("", told, Wording.of(one.question), array("f", one.vector))


def _is_kept(one: Outcome) -> bool:
    return one.made.grounded and one.made.reason == WHOLE and bool(one.made.citations)


def _is_right(one: Outcome, label: str) -> bool:
    """Whether the answer first cites the section of a label."""
    return _is_kept(one) and one.made.citations[0].document == label


def _right(asked: Sequence[Outcome]) -> Rate:
    return Rate.of(_is_right(one, one.label) for one in asked if _is_kept(one))


def _read(path: Path, known: set[str]) -> Labelled:
    if not path.is_file():
        raise BadInputError(f"there is no {path}")
    data = Labelled.read(path, QUESTIONS)
    if unknown := set(data.labels) - known:
        raise BadInputError(f"{path}: no section has the label {', '.join(sorted(unknown)[:3])}")
    return data


def _told(repeat: float, served: Sequence[Served]) -> dict[str, Any]:
    hits = Rate.of(one.cache == HIT for one in served)
    times = np.array([one.ms for one in served])
    given = np.array([one.cache == HIT for one in served])
    return {
        "repeat": repeat,
        "hits": hits.to_dict(),
        "alike": sum(one.alike is not None for one in served),
        "ms": {
            "mean": float(times.mean()), "p50": float(np.percentile(times, 50)), "p95": float(np.percentile(times, 95)),
            "mean_hit": float(times[given].mean()) if given.any() else None,
            "mean_other": float(times[~given].mean()) if not given.all() else None,
        },
    }  # fmt: skip


def _shares(point: dict[str, Any]) -> tuple[str, ...]:
    return tuple(str(Rate(point[name]["hits"], point[name]["total"])) for name in ("hits", "wrong", "worse"))


def _curves(ways: dict[str, Any], plot: Path) -> list[Shown]:
    chosen = [
        (f"{way}, by {fault}", *((f"{point['alike']:.2f}", *_shares(point)) if point else ("-",) * 4))
        for way, found in ways.items()
        for fault, point in found["chosen"].items()
    ]
    rows = [
        (way, f"{point['alike']:.2f}", *_shares(point))
        for way, found in ways.items()
        for point in found["curves"]["judged_on"]
        if point["alike"] in SHOWN
    ]
    columns, numeric = ("", "least cosine", "hits", "of them wrong", "worse"), ("least cosine",)
    title = f"Least cosine with at most 1 % wrong, or worse, on {CHOSEN_ON}.jsonl, judged by {JUDGED_ON}.jsonl"
    return [(title, columns, chosen, numeric), (f"{JUDGED_ON}.jsonl; curves: {plot}", columns, rows, numeric)]


def _streams(streams: Sequence[dict[str, Any]], alike: float) -> Shown:
    rows = [
        (f"{one['repeat']:.0%}", str(Rate(one["hits"]["hits"], one["hits"]["total"])), one["alike"],
         *("-" if value is None else f"{value:.1f}" for value in one["ms"].values()))
        for one in streams
    ]  # fmt: skip
    columns = ("repeats", "hits", "alike", "mean ms", "P50", "P95", "a hit", "another")
    return f"{REQUESTS:,} requests in this process, alike from {alike:g}", columns, rows, columns[2:]
