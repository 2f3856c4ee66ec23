"""Makes a synthetic data set out of a dataset on the cluster: arranges ``synthetic.parts`` and publishes the artefact.

What is made depends on dataset, count, share and seed; never on the number of workers. A killed run goes on where it
stopped: finished parts are found again in the staging folder.
"""

from __future__ import annotations

import json
import math
import posixpath
from collections import Counter
from collections.abc import Sequence
from typing import Any

import ray

from cluster.core.errors import BadInputError, PlinthError, UsageError
from cluster.core.progress import Progress
from cluster.core.records import Manifest
from cluster.core.run_keys import RunKey, sections_but
from cluster.core.storage import Store
from cluster.core.telemetry import log_event
from data_jobs.governance.policies import check_open
from data_jobs.governance.tombstones import read_tombstones
from data_jobs.synthetic import parts as work
from data_jobs.synthetic.parts import Part
from data_jobs.synthetic.rows import SPARE, Settings, allowed, choose, idf
from data_jobs.tasks import await_cpu, spread

KIND = "synthetic"
ALIAS = "latest"
SHARE = 0.5
DOING = "making synthetic rows"  # What messages of errors say was going on.
KEY = RunKey("synthetic", (__name__,), outside=sections_but())


def synthesise(
    store: Store, dataset: Manifest, progress: Progress, count: int = 0, share: float = SHARE, seed: int = 0
) -> Manifest:
    """Publish ``synthetic/<dataset's name>``: ``rows-*.parquet`` and ``report.json``; ray must be connected.

    Args:
        count: rows wanted; 0 takes as many as the cap allows.
        share: most of all rows, real documents and synthetic rows together, that may be synthetic.

    Raises:
        UsageError: a count below 0 or a share outside (0, 1].
        PolicyRefusedError: ``count`` is more than the share cap allows, or not everybody may read the documents.
        BadInputError: no row could be made of the dataset's documents.
        IntegrityError: the dataset's files are damaged.
    """
    if count < 0 or not 0 < share <= 1:
        raise UsageError("--count must be 0 or more, --share above 0 and at most 1")
    check_open(dataset)
    settings = {"count": count, "share": share, "seed": seed, "forgotten": read_tombstones(store).key}
    inputs = {"dataset": f"{dataset.name}@{dataset.version}"}
    key = KEY(inputs=inputs, config=settings)
    manifest = store.find_run(key)
    if manifest is None:
        store.verify(dataset)
        manifest = _run(store, dataset, key, inputs, settings, progress)
        log_event("data", "synthetic_published", name=manifest.name, version=manifest.version, counts=manifest.counts)
    store.move_alias(KIND, manifest.name, ALIAS, manifest.version, why=f"made from {inputs['dataset']}")
    return manifest


def _run(
    store: Store, dataset: Manifest, key: str, inputs: dict[str, str], settings: dict[str, Any], progress: Progress
) -> Manifest:
    staging, folder = store.staging(key), store.artefact(dataset)
    names = sorted(f.path for f in dataset.files if f.path.startswith("documents-"))
    parts = [Part(n, store.uri, posixpath.join(folder, name), staging) for n, name in enumerate(names)]
    documents, frequencies = _survey(parts, progress)
    may = allowed(documents, settings["share"], settings["count"])
    weights, rare = idf(documents, frequencies)
    per_document = max(2, math.ceil(SPARE * may.wanted / documents))
    made = Settings(settings["seed"], per_document, weights, rare)
    _make(parts, made, store, progress)
    progress.stage("choose")
    candidates, filtered = [], Counter[str]()
    owner: dict[str, int] = {}
    for part in parts:
        found, left_out = work.read_candidates(part)
        candidates += found
        filtered.update(left_out)
        owner.update((one.id, part.index) for one in found)
    made_rows = len(candidates) + sum(filtered.values())
    kept, more = choose(candidates, may.wanted, settings["seed"])
    report = _finish(parts, kept, owner, progress)
    spare = more.pop("not_chosen", 0)
    filtered.update(more)
    counts = {
        "documents": documents, "candidates": made_rows, "kept": report["rows"],
        "filtered": sum(filtered.values()), "reasons": dict(sorted(filtered.items())), "not_chosen": spare,
        "requested": settings["count"], "allowed": may.most, "share_cap": settings["share"],
        "share": round(report["rows"] / (report["rows"] + documents), 4), "documents_used": report["documents"],
        "forms": report["forms"], "rules": report["rules"],
    }  # fmt: skip
    if made_rows != sum(filtered.values()) + spare + report["rows"]:
        raise PlinthError(f"synthetic rows do not add up: {json.dumps(counts)}")
    if not report["rows"]:
        store.fs.rm(staging, recursive=True)
        raise BadInputError(
            f"no row could be made of {inputs['dataset']}: its {documents} documents hold no sentence that a question "
            f"can be made of ({counts['filtered']} candidates were filtered)", counts=counts,
        )  # fmt: skip
    if read_tombstones(store).key != settings["forgotten"]:  # forgotten meanwhile: the first rows may be of it
        store.fs.rm(staging, recursive=True)
        return synthesise(store, dataset, progress, settings["count"], settings["share"], settings["seed"])
    output = posixpath.join(staging, "dataset")
    store.write(posixpath.join(output, "report.json"), json.dumps(counts, indent=1, sort_keys=True).encode())
    manifest = store.publish(KIND, dataset.name, output, run_key=key, inputs=inputs, config=settings, counts=counts)
    if store.exists(staging):
        store.fs.rm(staging, recursive=True)
    return manifest


def _survey(parts: Sequence[Part], progress: Progress) -> tuple[int, Counter[str]]:
    progress.stage("count words", len(parts), "files")
    await_cpu(progress)
    documents, frequencies = 0, Counter[str]()
    for _, (number, terms) in spread(work.survey_part, [(part,) for part in parts], DOING):
        documents += number
        frequencies.update(terms)
        progress.advance()
    if not documents:
        raise BadInputError("the dataset holds no document that people wrote: nothing to make synthetic rows of")
    return documents, frequencies


def _make(parts: Sequence[Part], settings: Settings, store: Store, progress: Progress) -> None:
    progress.stage("make rows", len(parts), "files")
    todo = [part for part in parts if not store.exists(part.candidates_path)]
    progress.advance(len(parts) - len(todo))
    shared = ray.put(settings)
    for _ in spread(work.make_part, [(part, shared) for part in todo], DOING):
        progress.advance()


def _finish(parts: Sequence[Part], kept: set[str], owner: dict[str, int], progress: Progress) -> dict[str, Any]:
    progress.stage("write", len(kept), "rows")
    ids: dict[int, list[str]] = {part.index: [] for part in parts}
    for one in sorted(kept):
        ids[owner[one]].append(one)
    totals: dict[str, Any] = {"rows": 0, "documents": 0, "forms": Counter(), "rules": Counter()}
    for _, counts in spread(work.finish_part, [(part, ids[part.index]) for part in parts], DOING):
        for name, value in counts.items():
            totals[name] = totals[name] + (Counter(value) if isinstance(value, dict) else value)
        progress.advance(counts["rows"])
    return {**totals, "forms": dict(sorted(totals["forms"].items())), "rules": dict(sorted(totals["rules"].items()))}
