"""Artefacts on any fsspec filesystem: atomic publish, content hashes, manifests, aliases, locks.

Layout below the store's root::

    <kind>/<name>/<version>/...files...        an immutable artefact (dataset, index)
    <kind>/<name>/<version>/manifest.json      written last; without it the artefact does not exist
    <kind>/<name>/aliases/<alias>.json         a movable name for a version, with its history
    runs/<run_key>.json                        which artefact a run produced (reuse before a stage runs)
    collections/default.json                   which index answers where a request names none
    staging/<run_key>/...                      work in progress of a run; survives a crash so that the run resumes

``Store`` is all of it: ``files`` (bytes, written whole or not at all), ``locks`` (between processes of one machine),
``aliases``, in ``store`` the artefacts themselves, and ``collection`` (indexes that answer). Where this machine has
keys for it (``store_keys``), ``fs`` encrypts every file (``sealed_files``, in the format of ``sealing``) and none has
a path that others can read: the store then behaves as an object store does.
"""

from cluster.core.storage.collection import INDEXES, LIVE, Collections
from cluster.core.storage.files import NAME, check_name, storage_errors, sync_folder, utc_now
from cluster.core.storage.store import MANIFEST, Store

__all__ = [
    "INDEXES",
    "LIVE",
    "MANIFEST",
    "NAME",
    "Collections",
    "Store",
    "check_name",
    "storage_errors",
    "sync_folder",
    "utc_now",
]
