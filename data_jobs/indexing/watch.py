"""Keeping an index fresh from a folder: what changes on disk is prepared, embedded and live within seconds.

A poll compares names, sizes and times only; where they differ, contents are hashed, and files whose hash is new go
through the same extraction and cleaning as in ``prepare_corpus``. The next version of the index then replaces, adds
and deletes just their documents (``update_index``); documents that came into the index otherwise stay. Duplicates
across files are not looked for: which of two is kept would depend on when they came.

What each file became is kept in ``watch/<index>-<folder>.json`` of the store. It is written before a version is
published, with every document that may come into the index by it, and after it: whenever the process is killed, the
next run knows all that may be in the index because of this folder, and looks at the files in question again.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from cluster.core.config import PlinthConfig
from cluster.core.errors import BadInputError
from cluster.core.records import Document, Manifest, stable_hash
from cluster.core.run_keys import RunKey, sections_but
from cluster.core.sections.data import CLEANING, EMBEDDING, SOURCE, WHOLE_CORPUS
from cluster.core.storage import Collections, Store
from data_jobs.corpus.clean import CleaningRules, clean_records
from data_jobs.filters.decontaminate import evaluation_sets, pinned
from data_jobs.governance.tombstones import Tombstones, read_tombstones
from data_jobs.indexing.update_index import KIND, compact, indexed_documents, needs_compaction, update
from data_jobs.retrieval.embedder import Embedder
from data_jobs.sources.files import FileItem, list_files
from data_jobs.sources.folder_labels import FolderLabels
from data_jobs.sources.records import limits_of, read_records

ALIAS = "live"
FIRST_BATCH, LARGEST_BATCH = 64, 1024
TRANSIENT = ("changed", "unreadable")
MAX_ANCESTORS = 200
KEY = RunKey(
    "watch", (__name__,),
    inside=(*CLEANING, "index.chunk_tokens"),
    outside=(*sections_but("data", "index"), *SOURCE, *WHOLE_CORPUS, *EMBEDDING, "index.name"),
)  # fmt: skip


@dataclass(frozen=True)
class Change:
    """One file's change as it went live. ``action``: added, changed, deleted, refused (no document is left of it)."""

    action: str
    path: str
    documents: int
    index_version: str
    reason: str = ""


@dataclass
class FileState:
    """A file as it stands in the index: ``key`` of its content, its documents' ids, why some records are not there.

    ``unsure``: a version was being published, or settings changed; it is to be prepared again.
    """

    key: str
    documents: list[str]
    reason: str = ""
    unsure: bool = False


@dataclass
class WatchState:
    """What the watcher knows of its folder and index. ``claimed``: documents that are this folder's, if in the index
    at all, of whichever file."""

    folder: str
    settings: str = ""
    index_version: str = ""
    files: dict[str, FileState] = field(default_factory=dict)
    claimed: list[str] = field(default_factory=list)


@dataclass
class _Work:
    """A file that has to be prepared, and what became of it."""

    item: FileItem
    documents: list[Document]
    reason: str
    transient: bool


class FolderWatch:
    """One folder and the index that follows it.

    Args:
        root: the folder; ``name`` of the index.
        embedder: a loaded one; its fingerprint must be that of the index if there is one already.

    Raises:
        BadInputError: there is no such folder.
    """

    def __init__(self, config: PlinthConfig, store: Store, root: Path, name: str, embedder: Embedder) -> None:
        if not root.is_dir():
            raise BadInputError(f"there is no folder {root} to watch")
        self.config = config.model_copy(update={"data": pinned(config.data, store)})
        self.store, self.root, self.name = store, root.resolve(), name
        self.embedder = embedder
        self._collections = Collections(store, config.index.name)
        self._path = store.path("watch", f"{name}-{stable_hash(str(self.root), 12)}.json")
        self._seen: object = None
        self._forgotten = Tombstones()
        self._state = self._load()

    def poll(self) -> Iterator[Change]:
        """Bring the index up to date if anything changed since the last call; yields each change once it is live.

        Raises:
            IntegrityError, IncompatibleError: the live index cannot be built upon.
            UsageError: a file of labels is not understood.
            EnvironmentFaultError: the store cannot be written.
        """
        if not self.root.is_dir():
            return  # unmounted or being replaced: not the same as every file deleted
        self._forgotten = read_tombstones(self.store, self._forgotten)
        # Labels of folders above hold here too, and are not seen in what is below.
        above = FolderLabels(self.root, self.config.data.access).of("")
        seen = stable_hash([_signature(self.root), above])
        now = (seen, self._forgotten.generation, self.store.alias(KIND, self.name, ALIAS))
        if now == self._seen:
            return
        unsettled = False
        with self.store.job(), self.store.locked(KIND, self.name):
            for change, retry in self._synchronise():
                unsettled |= retry
                if change is not None:
                    yield change
        self._seen = None if unsettled else (*now[:2], self.store.alias(KIND, self.name, ALIAS))

    # -- one synchronisation -------------------------------------------------------------------------------------------
    def _synchronise(self) -> Iterator[tuple[Change | None, bool]]:
        """Changes as they go live, and whether a file has to be looked at again."""
        index = self._before()
        items, refused = list_files(self.root, self.config.data.max_file_mb << 20, access=self.config.data.access)
        present, known = {item.path for item in items}, self._state.files
        unreadable = {q.source: q.reason for q in refused}
        todo = [item for item in items if item.path not in known or _differs(item, known[item.path])]
        vanished = [path for path in known if path not in present and unreadable.get(path) not in TRANSIENT]
        retry = any(reason in TRANSIENT for reason in unreadable.values())
        size, at = FIRST_BATCH, 0
        while at < len(todo) or vanished:
            batch = [self._prepared(item) for item in todo[at : at + size]]
            retry |= any(work.transient for work in batch)
            ready = [work for work in batch if not work.transient]
            index = self._publish(index, ready, vanished)
            for change in self._settled(ready, vanished, unreadable, index.version if index else ""):
                yield change, retry
            vanished, at, size = [], at + size, min(2 * size, LARGEST_BATCH)
        index = self._without_leftovers(index)
        if index is not None and needs_compaction(self.store, index):
            self._go_live(compact(self.store, index), "compaction")
        self._save()
        yield None, retry

    def _before(self) -> Manifest | None:
        """The live version; where it is not what this watch left, or settings changed, every file is looked at anew."""
        live = self.store.alias(KIND, self.name, ALIAS)
        manifest = self.store.manifest(KIND, self.name, live) if live else None
        settings = KEY(
            data=KEY.settings(self.config.data), index=KEY.settings(self.config.index), forgotten=self._forgotten.key
        )
        state = self._state
        if settings != state.settings or not self._descends(manifest):
            for known in state.files.values():
                known.unsure = True
            if manifest is not None and self._is_of_this_folder(manifest):
                # Built from this folder by other means: what it holds is this watch's to delete.
                state.claimed = sorted({*state.claimed, *indexed_documents(self.store, manifest)})
            state.settings = settings
        return manifest

    def _descends(self, manifest: Manifest | None) -> bool:
        """Whether the live version came out of the one this watch left, by updates that only touched other files."""
        for _ in range(MAX_ANCESTORS):
            if manifest is None or manifest.version == self._state.index_version:
                return manifest is not None
            if manifest.inputs.get("folder") == str(self.root):
                return False
            version = manifest.inputs.get("previous", "").partition("@")[2]
            manifest = self.store.manifest(KIND, self.name, version) if version else None
        return False

    def _is_of_this_folder(self, manifest: Manifest) -> bool:
        dataset, _, version = manifest.inputs.get("dataset", "").partition("@")
        if not dataset:
            return False
        source = self.store.manifest("datasets", dataset, version).inputs.get("source", "")
        return bool(source) and Path(source).resolve() == self.root

    def _prepared(self, item: FileItem) -> _Work:
        records = read_records(self.root, item, self.root.name, limits_of(self.config.data))
        section = self.config.data
        cleaned = clean_records(records, CleaningRules(section, self._forgotten, evaluation_sets(self.store, section)))
        fields = Document.__dataclass_fields__
        documents = [Document.from_dict({k: v for k, v in row.items() if k in fields}) for row in cleaned.rows]
        reasons = [*(row.reason for row in cleaned.quarantined), *(row.reason for row in cleaned.dropped)]
        transient = any(q.reason in TRANSIENT and not q.record for q in cleaned.quarantined)
        return _Work(item, documents, ", ".join(sorted(set(reasons))), transient)

    def _publish(self, before: Manifest | None, ready: Sequence[_Work], vanished: Sequence[str]) -> Manifest | None:
        """The version with what became of some files; they are marked unsure until ``_settled``."""
        state = self._state
        paths = [*vanished, *(work.item.path for work in ready)]
        old = {name for path in paths if path in state.files for name in state.files[path].documents}
        elsewhere = {name for path, known in state.files.items() if path not in paths for name in known.documents}
        now = {document.id: document for work in ready for document in work.documents}
        state.claimed = sorted({*state.claimed, *old, *now})
        for path in paths:
            if path in state.files:
                state.files[path].unsure = True
        self._save()
        return self._updated(before, list(now.values()), old - set(now) - elsewhere)

    def _without_leftovers(self, before: Manifest | None) -> Manifest | None:
        """Delete what is claimed but of no file: what a killed run, or another build of this folder, left behind."""
        held = {name for known in self._state.files.values() for name in known.documents}
        index = self._updated(before, [], set(self._state.claimed) - held)
        self._state.claimed = []
        return index

    def _updated(self, before: Manifest | None, documents: list[Document], deleted: set[str]) -> Manifest | None:
        if not documents and (before is None or not deleted & set(indexed_documents(self.store, before))):
            return before
        inputs = {"folder": str(self.root), "content": stable_hash(sorted((d.id, d.file_sha256) for d in documents))}
        section = self.config.index
        index = update(
            self.store, section, before, documents, deleted, self.embedder, inputs=inputs, name=self.name
        )  # fmt: skip
        self._go_live(index, "index watch")
        return index

    def _settled(
        self, ready: Sequence[_Work], vanished: Sequence[str], unreadable: dict[str, str], version: str
    ) -> Iterator[Change]:
        known = self._state.files
        for path in vanished:
            if known.pop(path).documents:
                reason = unreadable.get(path, "")
                yield Change("refused" if reason else "deleted", path, 0, version, reason)
        for work in ready:
            old = known.get(work.item.path)
            documents, key = sorted(d.id for d in work.documents), path_key(work.item)
            known[work.item.path] = FileState(key, documents, work.reason)
            if old is None or old.key != key:
                action = "refused" if not documents else "changed" if old else "added"
                yield Change(action, work.item.path, len(documents), version, work.reason)
        self._save()

    def _go_live(self, index: Manifest, why: str) -> None:
        self._collections.go_live(self.name, index.version, why)
        self._state.index_version = index.version

    # -- state ---------------------------------------------------------------------------------------------------------
    def _load(self) -> WatchState:
        state = WatchState(str(self.root))
        if self.store.exists(self._path):
            row = self.store.read_json(self._path)
            files = {path: FileState(**known) for path, known in row.pop("files").items()}
            state = WatchState(**row, files=files)
        return state

    def _save(self) -> None:
        self.store.write(self._path, json.dumps(asdict(self._state), indent=1, sort_keys=True).encode())


def _differs(item: FileItem, known: FileState) -> bool:
    return known.unsure or path_key(item) != known.key


def path_key(item: FileItem) -> str:
    """Changes whenever the file's records may have."""
    return stable_hash([item.sha256, item.companion, item.access])


def _signature(root: Path) -> str:
    """Names, sizes and times of everything below a folder; reads no file."""
    found: list[tuple[str, ...]] = []
    pending = [root]
    while pending:
        folder = pending.pop()
        try:
            entries = list(os.scandir(folder))
        except OSError:
            found.append((str(folder), "unreadable"))
            continue
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError:
                continue  # gone since it was listed: the next poll sees the folder without it
            if stat.S_ISDIR(status.st_mode):
                pending.append(Path(entry.path))
            else:
                numbers = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
                found.append((entry.path, *map(str, numbers)))
    return stable_hash(sorted(found))
