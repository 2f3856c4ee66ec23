"""Make a source's files readable by path, wherever the source is.

Folders, globs and files are read where they are. What is remote is copied below ``landing/<source>/<hash of content>``
first: the same content lands in the same folder, so that an interrupted job finds it again, and a job that reads is
not disturbed by the next one that lands.
"""

from __future__ import annotations

import os
import posixpath
import secrets
import shutil
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from cluster.core.errors import BadInputError
from cluster.core.records import Quarantined, stable_hash
from cluster.core.sections.data import DataSection
from cluster.core.storage import storage_errors
from data_jobs.extractors.archives import check_entry_name
from data_jobs.extractors.protocol import UnreadableFileError
from data_jobs.extractors.registry import FORMATS, SUFFIX_OF_TYPE, SUFFIXES, extractor_for
from data_jobs.sources.entry import CatalogueEntry
from data_jobs.sources.fetch import AddressPolicy, FetchLimits, allowing, fetch
from data_jobs.sources.files import FileItem, check_folder, list_files
from data_jobs.sources.globs import matches, split_glob
from data_jobs.sources.objects import ObjectLimits, land_objects

KEPT = 3  # So many landed versions of a source stay; older ones are removed.


@dataclass(frozen=True)
class LocatedFiles:
    """A source as files below ``root``: those to read, and those left out with their reasons."""

    root: Path
    files: tuple[FileItem, ...]
    refused: tuple[Quarantined, ...]


def locate(
    section: DataSection,
    source: CatalogueEntry | None,
    landing: Path,
    policy: AddressPolicy | None = None,
    context: ssl.SSLContext | None = None,
) -> LocatedFiles:
    """List the files of ``source``, or of the plain folder ``section.source`` where that is None.

    Args:
        landing: folder that remote sources are copied to; every worker must see it.
        policy: which addresses may be fetched from; the default is public ones and ``section.private_hosts``.

    Raises:
        BadInputError: there is nothing, or more than may be fetched.
        PolicyRefusedError: an address is not allowed.
        EnvironmentFaultError: the place cannot be reached.
        UsageError: a file of labels is not understood.
    """
    most = section.max_file_mb << 20
    if source is None:
        root = check_folder(section.source)
        return _listed(root, *list_files(root, most, access=section.access), section.source, "auto")
    if not source.remote:
        folder, pattern = split_glob(source.location)
        root = check_folder(str(folder))
        found = list_files(root, most, _wanted(pattern), section.access)
        return _listed(root, *found, source.location, source.format)
    with storage_errors(str(landing)):
        place = landing / source.name
        place.mkdir(parents=True, exist_ok=True)
        arriving = place / f"{secrets.token_hex(8)}.part"
        arriving.mkdir()
        try:
            if source.remote == "https":
                _land_url(source, arriving, section, policy or allowing(section.private_hosts), context)
                refused: list[Quarantined] = []
            else:
                limits = ObjectLimits(object_bytes=most, total_bytes=section.max_source_mb << 20)
                refused = land_objects(source.location, arriving, limits)
            items, more = list_files(arriving, most, access=section.access)
            content = stable_hash([(item.path, item.sha256) for item in items])
            final = place / content
            if not final.exists():
                os.rename(arriving, final)
            os.utime(final)
        finally:
            shutil.rmtree(arriving, ignore_errors=True)
        _prune(place)
    return _listed(final, items, [*refused, *more], source.location, source.format)


def _listed(root: Path, items: list[FileItem], refused: list[Quarantined], where: str, kind: str) -> LocatedFiles:
    if not items and not refused:
        raise BadInputError(f"{where} holds no files: give a source of {' '.join(SUFFIXES)} files")
    kept, other = [], []
    for item in items:
        extractor = extractor_for(item.path)
        if kind == "auto" or (extractor is not None and extractor.format.kind == kind):
            kept.append(item)
        else:
            other.append(Quarantined(item.path, "", "unsupported_kind", f"the source's format is {kind}"))
    return LocatedFiles(root, tuple(kept), tuple(sorted([*refused, *other], key=lambda q: (q.source, q.record))))


def _wanted(pattern: str) -> Callable[[str], bool] | None:
    return (lambda path: matches(pattern, path)) if pattern else None


def _land_url(
    source: CatalogueEntry, folder: Path, section: DataSection, policy: AddressPolicy, context: ssl.SSLContext | None
) -> None:
    limits = FetchLimits(bytes=min(section.max_source_mb, section.max_file_mb) << 20)
    arrived = folder / "arrived"
    got = fetch(source.location, arrived, policy, limits, context)
    name = unquote(posixpath.basename(urlsplit(got.url).path))
    try:
        check_entry_name(name)
        known = extractor_for(name) is not None and "/" not in name
    except UnreadableFileError:
        known = False
    if not known:  # a page without a suffix: by the format in the catalogue, else by the type the server declares
        suffix = next((f.suffixes[0] for f in FORMATS if f.kind == source.format), SUFFIX_OF_TYPE.get(got.content_type))
        if suffix is None:
            raise BadInputError(
                f"{source.location}: the kind of file is not known (declared as {got.content_type or 'nothing'}); "
                f"give the source a `format`"
            )
        name = f"{source.name}{suffix}"
    os.rename(arrived, folder / name)


def _prune(place: Path) -> None:
    landed = sorted((p for p in place.iterdir() if p.suffix != ".part"), key=lambda p: p.stat().st_mtime, reverse=True)
    for folder in landed[KEPT:]:
        shutil.rmtree(folder, ignore_errors=True)
