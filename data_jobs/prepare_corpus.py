"""Prepare a corpus on Ray Data: arranges the two passes of ``blocks`` over the cluster and publishes the dataset.

Every block's outcome is kept in the run's staging folder, so a killed run goes on where it stopped, and the result is
the same bytes for any number of workers. A finished identical run is not run again at all. Workers read the source
folder and the store by path: on several machines both must be on a shared filesystem.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import posixpath
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import ray
import ray.data
from ray.exceptions import RayTaskError

from cluster.core.config import DataSection, PlinthConfig
from cluster.core.errors import BadInputError, PlinthError
from cluster.core.progress import Progress
from cluster.core.records import Document, Manifest, Quarantined, stable_hash
from cluster.core.storage import Store, check_name, source_hash
from cluster.core.telemetry import log_event
from data_jobs import blocks as work
from data_jobs import report
from data_jobs.blocks import Block, Cleaned
from data_jobs.sources import files, pydocs
from data_jobs.sources.asked import with_questions
from data_jobs.sources.files import FileItem
from data_jobs.sources.symbols import ModuleScan

KIND = "datasets"
ALIAS = "latest"
_MODULES = ("extract", "text", "questions", "quality", "dedup", "pii", "blocks", "report")
_CODE = ("data_jobs/sources", *(f"data_jobs/{name}.py" for name in _MODULES))
_LIBRARIES = ("ftfy", "rensa", "pyarrow")


@dataclass(frozen=True)
class _Source:
    """What a source offers: its dataset's name, the version of its content, and how to make blocks of it."""

    name: str
    version: str
    seen: int
    refused: list[Quarantined]
    root: str = ""
    files: tuple[FileItem, ...] = ()


def prepare(config: PlinthConfig, store: Store, progress: Progress) -> Manifest:
    """Build the dataset that ``config.data`` describes; needs a Ray connection.

    The dataset holds ``documents-*.parquet`` (columns as ``records.Document``), ``quarantine.parquet``,
    ``dropped.parquet`` and ``report.json``; its ``latest`` alias is moved to it.

    Raises:
        BadInputError: the source cannot be read at all, or no document is left of it.
        EnvironmentFaultError: the store cannot be written.
    """
    section = config.data
    source = _open_source(section, progress)
    key = _run_key(section, source)
    manifest = store.find_run(key)
    if manifest is not None:
        log_event("data", "dataset_reused", dataset=manifest.name, version=manifest.version, run_key=key)
    else:
        log_event("data", "prepare_started", dataset=source.name, source=section.source, run_key=key, files=source.seen)
        manifest = _run(section, source, key, store, progress)
        log_event("data", "dataset_published", dataset=manifest.name, version=manifest.version, counts=manifest.counts)
    store.move_alias(KIND, manifest.name, ALIAS, manifest.version, why=f"prepared from {section.source}")
    return manifest


# -- sources -----------------------------------------------------------------------------------------------------------
def _open_source(section: DataSection, progress: Progress) -> _Source:
    if section.source == pydocs.SOURCE_NAME:
        name = check_name(section.name or pydocs.SOURCE_NAME)
        return _Source(name, pydocs.library_version(), len(pydocs.module_names()), [])
    progress.stage("list files")
    root = files.check_folder(section.source)
    items, refused = files.list_files(root, section.max_file_mb << 20)
    if not items and not refused:
        raise BadInputError(f"{root} holds no files: give --source a folder of {' '.join(files.SUFFIXES)} files")
    version = stable_hash([(f.path, f.bytes, f.sha256) for f in items] + [q.to_dict() for q in refused])
    name = check_name(section.name or slug(root.name))
    return _Source(name, version, len(items) + len(refused), refused, str(root), tuple(items))


def slug(name: str) -> str:
    """A dataset name out of a folder's name."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:64].strip("-") or "documents"


def _run_key(section: DataSection, source: _Source) -> str:
    return stable_hash(
        {
            "stage": "prepare", "source": source.version, "name": source.name,
            "config": section.model_dump(exclude={"source", "name"}), "code": source_hash(*_CODE),
            "libraries": {name: importlib.metadata.version(name) for name in _LIBRARIES},
        }
    )  # fmt: skip


# -- the run -----------------------------------------------------------------------------------------------------------
def _run(section: DataSection, source: _Source, key: str, store: Store, progress: Progress) -> Manifest:
    _quiet_ray_data()
    staging = store.staging(key)
    blocks, refused, unplaced = _blocks(section, source, store, staging, progress)
    unit = "files" if source.files else "documents"
    todo = [block for block in blocks if not store.exists(block.clean_path)]
    log_event("data", "blocks_planned", run_key=key, blocks=len(blocks), done=len(blocks) - len(todo))
    progress.stage("clean", sum(_size(block) for block in blocks), unit)
    progress.advance(sum(_size(block) for block in blocks) - sum(_size(block) for block in todo))
    for row in _over_blocks(todo, _clean):
        progress.advance(row["items"])
    progress.stage("deduplicate")
    cleaned = work.find_duplicates(store, blocks)
    counts = _finish(blocks, cleaned, store, progress)
    quarantined = [*refused, *cleaned.quarantined]
    dropped = cleaned.left_out()
    books = report.ledger(
        files_seen=source.seen, kept=sum(c["documents"] for c in counts), dropped=dropped, quarantined=quarantined,
        pii=_summed(c["pii"] for c in counts), words=sum(c["words"] for c in counts),
        questions=sum(c["questions"] for c in counts), questions_unplaced=unplaced,
    )  # fmt: skip
    report.check_balance(books)
    progress.counts(**{name: books[name] for name in ("kept", "duplicates", "filtered", "quarantined")})
    if not books["kept"]:
        store.fs.rm(staging, recursive=True)
        log_event("data", "nothing_kept", source=section.source, counts=books)
        raise _nothing_kept(section.source, books, quarantined)
    dataset = posixpath.join(staging, "dataset")
    for name, data in (
        (report.QUARANTINE, work.parquet_bytes([q.to_dict() for q in quarantined], work.QUARANTINE_SCHEMA)),
        (report.DROPPED, work.parquet_bytes([d.to_dict() for d in dropped], work.DROPPED_SCHEMA)),
        (report.REPORT, json.dumps(books, indent=1, sort_keys=True).encode()),
    ):
        store.write(posixpath.join(dataset, name), data)
    manifest = store.publish(
        KIND, source.name, dataset, run_key=key, inputs={"source": section.source, "content": source.version},
        config=section.model_dump(), counts=books,
    )  # fmt: skip
    store.fs.rm(staging, recursive=True)
    return manifest


def _blocks(
    section: DataSection, source: _Source, store: Store, staging: str, progress: Progress
) -> tuple[list[Block], list[Quarantined], int]:
    """The blocks of the run, what could not be read before there were any, and questions without a document."""
    if source.files or source.root:
        parts = work.split(source.files, [file.bytes for file in source.files], section.blocks)
        made = [
            Block(index, store.uri, staging, section, slug(source.name), source.root, files=tuple(part))
            for index, part in enumerate(parts)
        ]
        return made, source.refused, 0
    found, refused = _read_pydocs(progress)
    documents, unplaced = with_questions(found)
    pieces = work.split(documents, [len(d.text) for d in documents], section.blocks)
    made = [
        Block(index, store.uri, staging, section, pydocs.SOURCE_NAME, documents=tuple(piece))
        for index, piece in enumerate(pieces)
    ]
    return made, refused, unplaced


def _read_pydocs(progress: Progress) -> tuple[list[Document], list[Quarantined]]:
    """Scan the standard library's modules on the cluster, then link them here: names are shared by all modules."""
    names = pydocs.module_names()
    progress.stage("read", len(names), "modules")
    parts = [names[start::16] for start in range(16)]
    pending = {ray.remote(pydocs.scan_modules).remote(part): len(part) for part in parts}
    scans: list[ModuleScan] = []
    refused: list[Quarantined] = []
    while pending:
        ready, _ = ray.wait(list(pending))
        found, failed = ray.get(ready[0])
        scans += found
        refused += failed
        progress.advance(pending.pop(ready[0]))
    return pydocs.merge(scans), sorted(refused, key=lambda q: q.source)


def _finish(blocks: Sequence[Block], cleaned: Cleaned, store: Store, progress: Progress) -> list[dict[str, Any]]:
    done = {block.index: work.finished_counts(store, block) for block in blocks}
    progress.stage("redact and write", cleaned.kept, "documents")
    progress.advance(sum(counts["documents"] for counts in done.values() if counts))
    for row in _over_blocks([block for block in blocks if not done[block.index]], _finish_one):
        progress.advance(row["documents"])
        done[row["index"]] = {**row, "pii": json.loads(row["pii"])}
    return [counts for _, counts in sorted(done.items()) if counts]


def _size(block: Block) -> int:
    return len(block.files) or len(block.documents)


def _summed(counts: Iterator[dict[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for part in counts:
        for name, number in part.items():
            total[name] = total.get(name, 0) + number
    return total


def _nothing_kept(source: str, books: dict[str, Any], quarantined: Sequence[Quarantined]) -> BadInputError:
    reasons = ", ".join(f"{name} {number}" for name, number in books["reasons"].items()) or "it is empty"
    return BadInputError(
        f"no document is left of {source}: {books['files_seen']} files seen, {books['files_quarantined']} quarantined, "
        f"{books['filtered']} records filtered ({reasons})",
        counts=books, quarantined=[q.to_dict() for q in quarantined[:1000]],
    )  # fmt: skip


# -- Ray Data ----------------------------------------------------------------------------------------------------------
def _clean(row: dict[str, Any]) -> dict[str, Any]:
    return dict(work.clean_block(Block.from_json(row["block"])))


def _finish_one(row: dict[str, Any]) -> dict[str, Any]:
    block = Block.from_json(row["block"])
    counts = work.finish_block(block)
    return {**counts, "index": block.index, "pii": json.dumps(counts["pii"])}


def _over_blocks(
    blocks: Sequence[Block], function: Callable[[dict[str, Any]], dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Run ``function`` once per block, a task each, yielding results as they come.

    ``from_items`` keeps the number of blocks it is given; Ray's file readers pack small inputs into one task.

    Raises:
        PlinthError: as a task raised it, without Ray's wrapping.
    """
    if not blocks:
        return
    rows = ray.data.from_items([{"block": block.to_json()} for block in blocks], override_num_blocks=len(blocks))
    try:
        yield from rows.map(function).iter_rows()
    except RayTaskError as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, PlinthError):
            cause = getattr(cause, "cause", None) or cause.__cause__
        if cause is None:
            raise
        raise cause from None


def _quiet_ray_data() -> None:
    """The command line has a progress bar of its own: silence Ray Data's."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    for name in ("ray.data", "ray.data.dataset"):
        logging.getLogger(name).setLevel(logging.ERROR)
