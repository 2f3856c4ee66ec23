"""Into which collection the index of a dataset goes: never into one that answers from other documents unasked."""

from __future__ import annotations

import contextlib
from pathlib import Path

from cluster.core.errors import BadInputError, UsageError
from cluster.core.records import Manifest
from cluster.core.storage import INDEXES, LIVE, Collections, Store, check_name


def collection_for(store: Store, first: str, dataset: Manifest, named: str = "") -> str:
    """The name of the index to build of a dataset.

    That is ``named`` where it is given, else ``first`` (``index.name``) while nothing answers there, else the
    collection that answers from this dataset already (the default before others), else a new one named after the
    dataset.

    Raises:
        UsageError: ``named`` is no usable name, or nothing is named and another dataset answers under this one's name.
    """
    if named:
        return check_name(named)
    collections = Collections(store, first)
    if collections.version(first) is None:
        return check_name(first)
    for name in dict.fromkeys((collections.default, *collections.names)):
        if _holds(store, name, dataset):
            return name
    if collections.version(dataset.name):
        raise UsageError(
            f"the collection {dataset.name} answers from other documents: say where this index goes with "
            f"--collection NAME (--collection {dataset.name} replaces what it answers from)"
        )
    return dataset.name


def collection_of_folder(store: Store, first: str, folder: Path) -> str:
    """The collection that answers from a folder already (the default before others), else the default one."""
    collections = Collections(store, first)
    for name in dict.fromkeys((collections.default, *collections.names)):
        live = store.manifest(INDEXES, name, LIVE) if collections.version(name) else None
        if live and folder.resolve() in _folders(store, live):
            return name
    return collections.default


def _folders(store: Store, index: Manifest) -> list[Path]:
    """The folder that an index is kept fresh from, and the one that its dataset was made of, where known."""
    said = [index.inputs.get("folder", "")]
    name, _, version = index.inputs.get("dataset", "").partition("@")
    if name:
        with contextlib.suppress(BadInputError):  # its dataset is gone
            said.append(store.manifest("datasets", name, version).inputs.get("source", ""))
    return [Path(folder).resolve() for folder in said if folder]


def _holds(store: Store, collection: str, dataset: Manifest) -> bool:
    """Whether a collection answers from this dataset (of the same name, out of the same place) or from its folder."""
    live = store.manifest(INDEXES, collection, LIVE)
    source = dataset.inputs.get("source", "")
    folder = live.inputs.get("folder")  # where `plinth index watch` keeps it fresh
    if folder and source and Path(source).resolve() == Path(folder):
        return True
    name, _, version = live.inputs.get("dataset", "").partition("@")
    if name != dataset.name:
        return False
    try:
        return store.manifest("datasets", name, version).inputs.get("source", "") == source
    except BadInputError:
        return True  # its dataset is gone: the name is what is left
