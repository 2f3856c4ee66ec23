"""Which parts of a store nothing needs any more, and their removal (ray-free).

Kept are: what an alias points to (served, champion, candidate, previous, latest, pinned), the index that was live
before, the newest few versions of every name, and all that these were made of. A version that is kept only for being
new is not if it holds a document that was forgotten. An index version shares files with the one before it, but does not
need it. Everything else goes, and so does what killed runs left and no run will come back for.

Removal is a rename into ``.trash`` and then the deletion, so that a reader sees a whole version or none.
"""

from __future__ import annotations

import os
import posixpath
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.core.records import Manifest
from cluster.core.storage import INDEXES, LIVE, MANIFEST, Store
from data_jobs.corpus import packs
from data_jobs.lineage.graph import Inventory, of_kind, references
from data_jobs.lineage.receipts import RECEIPTS

TRASH = ".trash"
PIN = "pin-"
STALE_HOURS = 24.0
_VERSION_CHARS = frozenset("0123456789abcdef")


@dataclass(frozen=True)
class GarbageItem:
    """Something that nothing needs: a version, or what a run left. ``path`` is below the store's root."""

    what: str
    path: str
    bytes: int
    why: str
    created_at: str = ""


@dataclass(frozen=True)
class Garbage:
    """What goes, and per kept version why it stays."""

    items: list[GarbageItem] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """The size of all of it."""
        return sum(item.bytes for item in self.items)


def find_garbage(store: Store, keep: int, stale_hours: float = STALE_HOURS, now: float | None = None) -> Garbage:
    """Look through a store; changes nothing.

    Args:
        keep: how many of the newest versions of every name stay in any case.
        stale_hours: what an unfinished run left stays that long after its last write: the run may be resumed.
    """
    inventory = Inventory.read(store)
    kept = keepers(inventory, keep, _live_before(store, inventory), _holding_forgotten(store))
    items = [
        GarbageItem(
            m.kind, f"{m.kind}/{m.name}/{m.version}", _size(store, store.artefact(m)), "unreferenced", m.created_at
        )
        for key, m in sorted(inventory.manifests.items())
        if _reference(m) not in kept
    ]
    cutoff = (time.time() if now is None else now) - stale_hours * 3600
    items += _unfinished(store, cutoff)
    items += _old_caches(store)
    items += _temporary(store, cutoff)
    return Garbage(items, kept)


def keepers(
    inventory: Inventory, keep: int, before: Iterable[Manifest] = (), stained: Iterable[str] = ()
) -> dict[str, str]:
    """The versions (``kind/name@version``) that stay, each with the reason."""
    kept: dict[str, str] = {}
    for (kind, name, alias), version in sorted(inventory.aliases.items()):
        manifest = inventory.manifests.get((kind, name, version))
        if manifest is not None and kind != "gates":
            kept.setdefault(_reference(manifest), "pinned" if alias.startswith(PIN) else f"alias {alias}")
    for manifest in before:
        kept.setdefault(_reference(manifest), "live before, to roll back to")
    by_name: dict[tuple[str, str], list[Manifest]] = {}
    for manifest in inventory.manifests.values():
        by_name.setdefault((manifest.kind, manifest.name), []).append(manifest)
    out = set(stained)
    for (kind, _), made in by_name.items():
        newest = sorted(made, key=lambda m: m.created_at, reverse=True)[: max(0, keep)]
        for manifest in newest if kind != "gates" else ():
            if f"{manifest.name}@{manifest.version}" not in out:
                kept.setdefault(_reference(manifest), f"one of the newest {keep}")
    by_reference = {f"{m.name}@{m.version}": m for m in inventory.manifests.values()}
    queue = [m for m in inventory.manifests.values() if _reference(m) in kept]
    while queue:
        manifest = queue.pop()
        for reference in references(manifest):
            made_of = by_reference.get(reference)
            if made_of is None or (made_of.kind == manifest.kind == "indexes"):
                continue
            if _reference(made_of) not in kept:
                kept[_reference(made_of)] = f"{manifest.kind}/{manifest.name}@{manifest.version} was made of it"
                queue.append(made_of)
    for manifest in of_kind(inventory.manifests.values(), "gates"):
        model = by_reference.get(manifest.inputs.get("model", ""))
        if model is not None and _reference(model) in kept:
            kept[_reference(manifest)] = f"the gate's word on {model.name}@{model.version}"
    return kept


def _reference(manifest: Manifest) -> str:
    return f"{manifest.kind}/{manifest.name}@{manifest.version}"


def _live_before(store: Store, inventory: Inventory) -> Iterator[Manifest]:
    """What `plinth index rollback` would go back to."""
    for kind, name, alias in inventory.aliases:
        if alias == "live":
            history = store.alias_history(kind, name, alias)
            found = inventory.manifests.get((kind, name, history[-2]["version"])) if len(history) > 1 else None
            if found is not None:
                yield found


def _holding_forgotten(store: Store) -> set[str]:
    """Versions (``name@version``) in which a receipt found what was forgotten."""
    folder = store.path(*RECEIPTS)
    found: set[str] = set()
    for path in store.fs.find(folder) if store.exists(folder) else []:
        receipt = store.read_json(path)
        found |= {row["dataset"] for row in receipt["found"]} | {row["artefact"] for row in receipt["indexes"]}
    return found


# -- what runs left ----------------------------------------------------------------------------------------------------
def _unfinished(store: Store, cutoff: float) -> Iterator[GarbageItem]:
    """Staging folders nobody wrote to for long, and versions without a manifest."""
    for path in _children(store, "staging"):
        if (newest := _newest(store, path)) < cutoff:
            finished = store.exists(store.path("runs", f"{posixpath.basename(path)}.json"))
            why = "its run is finished" if finished else f"unfinished run, last written {_hours(newest)} ago"
            yield GarbageItem("staging", _below(store, path), _size(store, path), why)
    for path in _children(store, TRASH):
        yield GarbageItem("trash", _below(store, path), _size(store, path), "an earlier collection was interrupted")
    for kind in _children(store):
        if posixpath.basename(kind) in ("staging", "cache", "forgotten", "runs", "training", TRASH):
            continue
        for name in _children(store, posixpath.basename(kind)):
            for path in _children(store, _below(store, name)):
                version = posixpath.basename(path)
                bare = len(version) == 12 and set(version) <= _VERSION_CHARS
                if bare and not store.exists(posixpath.join(path, MANIFEST)) and _newest(store, path) < cutoff:
                    yield GarbageItem("unfinished", _below(store, path), _size(store, path), "it has no manifest")


def _old_caches(store: Store) -> Iterator[GarbageItem]:
    """Cleaned records of settings or code that were since replaced: all but the newest of every dataset."""
    for name in _children(store, *packs.FOLDER):
        settings = sorted(_children(store, _below(store, name)), key=lambda path: _newest(store, path))
        for path in settings[:-1]:
            yield GarbageItem("cache", _below(store, path), _size(store, path), "made with other settings or code")


def _temporary(store: Store, cutoff: float) -> Iterator[GarbageItem]:
    """Half-written files of killed processes."""
    if not store.on_disk:
        return
    for path in Path(store.root).rglob("*.tmp"):
        below = path.relative_to(store.root).as_posix()
        if path.is_file() and not below.startswith(("staging/", "training/")) and path.stat().st_mtime < cutoff:
            yield GarbageItem("temporary", below, path.stat().st_size, "a process was killed while it wrote")


def _children(store: Store, *parts: str) -> list[str]:
    """Folders in a folder of the store."""
    folder = store.path(*parts)
    if not store.exists(folder):
        return []
    found: list[Any] = store.fs.ls(folder, detail=True)
    return sorted(str(entry["name"]).rstrip("/") for entry in found if entry["type"] == "directory")


def _below(store: Store, path: str) -> str:
    return posixpath.relpath(path, store.root)


def _size(store: Store, path: str) -> int:
    return sum(int(entry["size"] or 0) for entry in store.fs.find(path, detail=True).values())


def _newest(store: Store, path: str) -> float:
    """When something below ``path`` was last written (seconds since the epoch; object stores without times: now)."""
    if store.on_disk:
        times = [p.lstat().st_mtime for p in (Path(path), *Path(path).rglob("*")) if p.exists()]
        return max(times, default=0.0)
    stamps = [entry.get("LastModified") for entry in store.fs.find(path, detail=True).values()]
    return max((stamp.timestamp() for stamp in stamps if stamp is not None), default=time.time())


def _hours(newest: float) -> str:
    return f"{(time.time() - newest) / 3600:.0f} h"


# -- removal -----------------------------------------------------------------------------------------------------------
def collect(
    store: Store, keep: int, stale_hours: float = STALE_HOURS, removed: Callable[[GarbageItem], None] = lambda _: None
) -> Garbage:
    """Remove what ``find_garbage`` finds while no job is running; returns what was removed.

    Raises:
        EnvironmentFaultError: a job is running on this machine, or the store cannot be written.
    """
    with store.collecting():
        found = find_garbage(store, keep, stale_hours)
        for item in found.items:
            _remove(store, item)
            removed(item)
        _forget_runs(store)
    return found


def forget_copies(store: Store, cache: Path) -> int:
    """Remove this machine's copies (``Store.fetch``) of versions that are gone from the store; returns how many."""
    found = [path for path in cache.glob("*/*/*") if path.is_dir() and set(path.name) <= _VERSION_CHARS]
    gone = [path for path in found if not store.exists(store.path(*path.relative_to(cache).parts, MANIFEST))]
    for path in gone:
        shutil.rmtree(path, ignore_errors=True)
    return len(gone)


def remove_index(store: Store, name: str) -> Garbage:
    """Take a collection out of service and remove its index's versions, but for those that are pinned or that something
    else was made of; returns what was removed and what stays.

    Raises:
        EnvironmentFaultError: a job is running on this machine, or the store cannot be written.
    """
    with store.collecting():
        store.remove_alias(INDEXES, name, LIVE)
        inventory = Inventory.read(store)
        found = Garbage()
        for manifest in store.versions(INDEXES, name):
            if why := _needed_by(inventory, manifest):
                found.kept[_reference(manifest)] = why
            else:
                size = _size(store, store.artefact(manifest))
                path = f"{manifest.kind}/{manifest.name}/{manifest.version}"
                found.items.append(GarbageItem(manifest.kind, path, size, "its collection was removed"))
                _remove(store, found.items[-1])
        if not found.kept:
            store.fs.rm(store.path(INDEXES, name), recursive=True)
        _forget_runs(store)
    return found


def _needed_by(inventory: Inventory, index: Manifest) -> str:
    """Why a version of an index stays though its collection goes; empty where nothing needs it."""
    if any(alias.startswith(PIN) for alias in inventory.aliases_of(index)):
        return "pinned"
    reference = f"{index.name}@{index.version}"
    for other in inventory.manifests.values():
        if (other.kind, other.name) != (index.kind, index.name) and reference in references(other):
            return f"{_reference(other)} was made of it"
    return ""


def _remove(store: Store, item: GarbageItem) -> None:
    path = store.path(*item.path.split("/"))
    if not store.on_disk:
        manifest = posixpath.join(path, MANIFEST)
        if store.exists(manifest):
            store.fs.rm(manifest)  # first: without it the version does not exist
        store.fs.rm(path, recursive=True)
        return
    if item.what == "temporary":
        Path(path).unlink(missing_ok=True)
        return
    if item.what != "trash":
        trash = store.path(TRASH)
        store.fs.makedirs(trash, exist_ok=True)
        moved = posixpath.join(trash, secrets.token_hex(8))
        os.rename(path, moved)
        path = moved
    store.fs.rm(path, recursive=True)


def _forget_runs(store: Store) -> None:
    """Drop the memory of runs whose artefact is gone; they would be run again anyway."""
    folder = store.path("runs")
    for path in store.fs.find(folder) if store.exists(folder) else []:
        if not path.endswith(".json"):
            continue
        run = store.read_json(path)
        if not store.exists(store.path(run["kind"], run["name"], run["version"], MANIFEST)):
            store.fs.rm(path)
