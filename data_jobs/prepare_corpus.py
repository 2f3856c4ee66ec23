"""Prepare a corpus on Ray Data: arranges the two passes of ``blocks`` over the cluster and publishes the dataset.

What cleaning made of each file is kept (``packs``): a killed run goes on where it stopped, and a later one over a
folder that changed a little cleans what changed. The result is the same bytes either way and for any number of
workers. A finished identical run is not run again at all. Workers read the source folder and the store by path: on
several machines both must be on a shared filesystem.
"""

from __future__ import annotations

import importlib.metadata
import json
import posixpath
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import ray
import ray.data

from cluster.core.access import access_counts
from cluster.core.config import PlinthConfig
from cluster.core.errors import BadInputError
from cluster.core.home import Home
from cluster.core.progress import Progress
from cluster.core.records import Manifest, Quarantined
from cluster.core.run_keys import RunKey, sections_but
from cluster.core.sections.data import CLEANING, SOURCE, WHOLE_CORPUS, DataSection
from cluster.core.storage import Store, check_name
from cluster.core.telemetry import log_event
from cluster.ray_errors import data_errors_as_raised, plain_errors
from data_jobs.corpus import blocks as work
from data_jobs.corpus import packs, report
from data_jobs.corpus.blocks import CorpusBlock
from data_jobs.extractors.registry import LIBRARIES
from data_jobs.filters.decontaminate import pinned
from data_jobs.governance.tombstones import Tombstones, read_tombstones
from data_jobs.pii.names import PACKAGE as MODEL_PACKAGE
from data_jobs.pii.names import missing, packaged_folder
from data_jobs.sources.catalogue import governed
from data_jobs.sources.protocol import OpenedSource, Preparation, SourceItem, SourceItems
from data_jobs.sources.registry import source_for
from data_jobs.tasks import await_cpu, spread

KIND = "datasets"
ALIAS = "latest"
DOING = "preparing the corpus"  # What messages of errors say was going on.
_LIBRARIES = ("ftfy", "rensa", "pyarrow", "charset-normalizer", "py3langid", "phonenumbers", "openvino", *LIBRARIES)
_TABLES = ("pii", "skipped", "access")  # of a block's counts, what travels as JSON
KEY = RunKey("prepare", (__name__,), inside=(*CLEANING, *WHOLE_CORPUS), outside=(*SOURCE, *sections_but("data")))
CLEAN_KEY = RunKey(
    "clean", ("data_jobs.corpus.blocks",), inside=CLEANING, outside=(*SOURCE, *WHOLE_CORPUS, *sections_but("data"))
)


def prepare(config: PlinthConfig, store: Store, progress: Progress) -> Manifest:
    """Build the dataset that ``config.data`` describes; needs a Ray connection.

    The dataset holds ``documents-*.parquet`` (columns as ``records.Document``), ``quarantine.parquet``,
    ``dropped.parquet`` and ``report.json``; its ``latest`` alias is moved to it.

    Raises:
        BadInputError: the source cannot be read at all, or no document is left of it.
        PolicyRefusedError: a policy refuses the source, or an address it is at.
        EnvironmentFaultError: the store cannot be written.
    """
    with store.job():
        manifest = _prepare(config.data, store, progress)
    store.move_alias(KIND, manifest.name, ALIAS, manifest.version, why=f"prepared from {config.data.source}")
    return manifest


def _prepare(section: DataSection, store: Store, progress: Progress) -> Manifest:
    section, entry = governed(section)
    section = pinned(section, store)
    source = source_for(section).open(section, entry, _landing(store), progress)
    name = check_name(section.name or source.name)
    with store.locked(*packs.FOLDER, name):  # two runs over one dataset would clear away each other's packs
        while True:
            forgotten = read_tombstones(store)
            key = _run_key(section, source.version, name, forgotten)
            manifest = store.find_run(key)
            if manifest is not None:
                log_event("data", "dataset_reused", dataset=manifest.name, version=manifest.version, run_key=key)
                return manifest
            log_event("data", "prepare_started", dataset=name, source=section.source, run_key=key,
                      files=source.seen, warning=missing(section) or None)  # fmt: skip
            manifest = _run(section, source, name, key, forgotten, store, progress)
            if manifest is not None:
                log_event("data", "dataset_published", dataset=manifest.name, version=manifest.version,
                          counts=manifest.counts)  # fmt: skip
                return manifest


# -- the source --------------------------------------------------------------------------------------------------------
def _landing(store: Store) -> Path:
    """Where remote content is copied to: beside the artefacts, or on this machine where those are not in a folder."""
    return Path(store.path("landing")) if store.local else Home.from_env().folder("landing")


def _items(items: SourceItems | Preparation, progress: Progress) -> SourceItems:
    """The items of a source. Where its parts have to be seen together first, they are read on the cluster."""
    if isinstance(items, SourceItems):
        return items
    progress.stage("read", sum(map(len, items.parts)), items.unit)
    await_cpu(progress)
    found: dict[int, Any] = {}
    for number, result in spread(items.read, [(part,) for part in items.parts], DOING):
        found[number] = result
        progress.advance(len(items.parts[number]))
    return items.join([result for _, result in sorted(found.items())])


def _run_key(section: DataSection, content: str, name: str, forgotten: Tombstones) -> str:
    return KEY(source=content, name=name, forgotten=forgotten.key, config=KEY.settings(section),
               libraries=_libraries())  # fmt: skip


def _clean_key(section: DataSection, source_name: str) -> str:
    """Of everything that decides what becomes of one record, but the record."""
    return CLEAN_KEY(config=CLEAN_KEY.settings(section), source_name=source_name, libraries=_libraries())


def _libraries() -> dict[str, str]:
    """Versions of what decides a record's text; the package of the name model may be missing."""
    versions = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    return versions | {MODEL_PACKAGE: "installed" if packaged_folder() else "missing"}


# -- the run -----------------------------------------------------------------------------------------------------------
def _run(
    section: DataSection, source: OpenedSource, name: str, key: str, forgotten: Tombstones, store: Store,
    progress: Progress,
) -> Manifest | None:  # fmt: skip
    """The dataset of one run, or None where more was forgotten meanwhile: then it must be left out, too."""
    staging = store.staging(key)
    dataset = posixpath.join(staging, "dataset")
    settings = _clean_key(section, source.label)
    content, unit = _items(source.items, progress), source.unit
    blocks, reused = work.with_packs(_blocks(section, source, content.items, store, staging), name, settings, store)
    total = sum(len(block.items) for block in blocks)
    todo = [block for block in blocks if not store.exists(block.clean_path)]
    log_event("data", "blocks_planned", run_key=key, blocks=len(blocks), done=len(blocks) - len(todo))
    progress.stage("clean", total, unit)
    progress.advance(total - sum(len(block.items) for block in todo))
    if todo:
        await_cpu(progress)
    for row in _over_blocks(todo, _clean):
        progress.advance(row["items"])
        progress.counts(processed=total - reused, reused=reused)
    progress.stage("deduplicate")
    books = _one_task(
        _find_duplicates, store.uri, dataset, [b.to_json() for b in blocks], forgotten, content.refused, source.seen
    )
    counts = _finish(blocks, books["kept"], store, progress)
    books |= {
        "kept": sum(c["documents"] for c in counts), "words": sum(c["words"] for c in counts),
        "questions": sum(c["questions"] for c in counts), "questions_unplaced": content.questions_unplaced,
        "pii": dict(sorted(_summed(c["pii"] for c in counts).items())),
        "skipped": dict(sorted(_summed(c["skipped"] for c in counts).items())),
    }  # fmt: skip
    books |= access_counts(_summed(c["access"] for c in counts))
    report.check_balance(books)
    progress.counts(**{name: books[name] for name in ("kept", "duplicates", "filtered", "quarantined")})
    if not books["kept"]:
        quarantined = work.read_rows(store, posixpath.join(dataset, report.QUARANTINE))
        store.fs.rm(staging, recursive=True)
        log_event("data", "nothing_kept", source=section.source, counts=books)
        raise _nothing_kept(section.source, books, quarantined)
    if read_tombstones(store).key != forgotten.key:
        log_event("data", "forgotten_meanwhile", run_key=key)
        store.fs.rm(staging, recursive=True)
        return None
    store.write(posixpath.join(dataset, report.REPORT), json.dumps(books, indent=1, sort_keys=True).encode())
    did = {f"{unit}_processed": total - reused, f"{unit}_reused": reused}
    manifest = store.publish(
        KIND, name, dataset, run_key=key,
        inputs={"source": source.where, "content": source.version, "warning": missing(section)},
        config=section.model_dump() | {"code": CLEAN_KEY.code_hash()},
        counts=books | did,
    )  # fmt: skip
    store.fs.rm(staging, recursive=True)
    packs.keep_only(store, name, settings, [block.clean_path for block in blocks])
    return manifest


def _blocks(
    section: DataSection, source: OpenedSource, items: Sequence[SourceItem], store: Store, staging: str
) -> list[CorpusBlock]:
    sizes = [item.size for item in items]
    parts = work.split(items, sizes, work.number_of_blocks(section, sizes))
    return [
        CorpusBlock(number, store.uri, staging, section, source.kind, tuple(part)) for number, part in enumerate(parts)
    ]


def _finish(blocks: Sequence[CorpusBlock], kept: int, store: Store, progress: Progress) -> list[dict[str, Any]]:
    done = {block.index: work.finished_counts(store, block) for block in blocks}
    progress.stage("write", kept, "documents")
    progress.advance(sum(counts["documents"] for counts in done.values() if counts))
    for row in _over_blocks([block for block in blocks if not done[block.index]], _finish_one):
        progress.advance(row["documents"])
        done[row["index"]] = {**row, **{name: json.loads(row[name]) for name in _TABLES}}
    return [counts for _, counts in sorted(done.items()) if counts]


def _summed(counts: Iterator[dict[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for part in counts:
        for name, number in part.items():
            total[name] = total.get(name, 0) + number
    return total


def _nothing_kept(source: str, books: dict[str, Any], quarantined: Sequence[dict[str, Any]]) -> BadInputError:
    reasons = ", ".join(f"{name} {number}" for name, number in books["reasons"].items()) or "it is empty"
    return BadInputError(
        f"no document is left of {source}: {books['files_seen']} files seen, {books['files_quarantined']} quarantined, "
        f"{books['filtered']} records filtered ({reasons})",
        counts=books, quarantined=list(quarantined[:1000]),
    )  # fmt: skip


# -- Ray Data ----------------------------------------------------------------------------------------------------------
def _clean(row: dict[str, Any]) -> dict[str, Any]:
    return dict(work.clean_block(CorpusBlock.from_json(row["block"])))


def _finish_one(row: dict[str, Any]) -> dict[str, Any]:
    block = CorpusBlock.from_json(row["block"])
    counts = work.finish_block(block)
    return {**counts, "index": block.index, **{name: json.dumps(counts[name]) for name in _TABLES}}


def _find_duplicates(
    uri: str,
    folder: str,
    blocks: Sequence[str],
    forgotten: Tombstones,
    refused: Sequence[Quarantined],
    files_seen: int,
) -> dict[str, Any]:
    """The step between the passes, on a worker: nothing of the corpus comes to the driver but its books."""
    store, made = Store(uri), [CorpusBlock.from_json(text) for text in blocks]
    cleaned = work.find_duplicates(store, made, forgotten)
    dropped, quarantined = cleaned.left_out(), [*refused, *cleaned.quarantined]
    for name, rows, schema in (
        (report.QUARANTINE, quarantined, work.QUARANTINE_SCHEMA),
        (report.DROPPED, dropped, work.DROPPED_SCHEMA),
    ):
        store.write(posixpath.join(folder, name), work.parquet_bytes([row.to_dict() for row in rows], schema))
    return report.ledger(
        files_seen=files_seen, kept=cleaned.kept, dropped=dropped, quarantined=quarantined, pii={}, words=0
    )


def _one_task(function: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """Run ``function`` once on the cluster."""
    with plain_errors(DOING):
        found: dict[str, Any] = ray.get(ray.remote(function).options(num_cpus=1).remote(*arguments))
    return found


def _over_blocks(
    blocks: Sequence[CorpusBlock], function: Callable[[dict[str, Any]], dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Run ``function`` once per block, a task each, yielding results as they come.

    ``from_items`` keeps the number of blocks it is given; Ray's file readers pack small inputs into one task.
    """
    if not blocks:
        return
    data_errors_as_raised()  # before the dataset, which keeps the settings it was made with
    rows = ray.data.from_items([{"block": block.to_json()} for block in blocks], override_num_blocks=len(blocks))
    with plain_errors(DOING):
        yield from rows.map(function).iter_rows()
