"""Objects below a prefix of an object store as files: listed, judged by name and size, streamed to a local folder.

``s3://`` takes the extra ``aws`` (s3fs), ``gs://`` needs gcsfs, ``hf://datasets/ORG/NAME`` huggingface_hub; credentials
and endpoints are theirs (``AWS_ENDPOINT_URL``, ``HF_ENDPOINT``), given by whoever runs the job, never by a source.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.core.errors import BadInputError, EnvironmentFaultError
from cluster.core.records import Quarantined
from data_jobs.extractors.archives import check_entry_name
from data_jobs.extractors.protocol import UnreadableFileError, printable
from data_jobs.extractors.registry import extractor_for

SCHEMES = {"s3": "the extra `aws`", "gs": "the package gcsfs", "hf": "the package huggingface_hub"}
_CLIENTS = ("aiohttp", "botocore", "gcsfs", "google", "httpx", "huggingface_hub", "requests", "urllib3")
_PIECE = 1 << 20


@dataclass(frozen=True)
class ObjectLimits:
    """Most bytes of one object, of all together, and most objects."""

    object_bytes: int = 32 << 20
    total_bytes: int = 20 << 30
    count: int = 1_000_000


def land_objects(uri: str, folder: Path, limits: ObjectLimits) -> list[Quarantined]:
    """Copy what can be read below ``uri`` (a prefix or one object) into ``folder``; returns what was left out.

    Raises:
        BadInputError: there is nothing, or more than the limits allow.
        EnvironmentFaultError: the store cannot be reached, or its package is not installed.
    """
    fs, base = _filesystem(uri)
    refused: list[Quarantined] = []
    total = count = 0
    for key, name, size in _listed(fs, base, uri):
        count += 1
        if count > limits.count:
            raise BadInputError(f"{uri} has over {limits.count} objects, the limit", limit=limits.count)
        try:
            check_entry_name(name)
            if extractor_for(name) is None:
                raise UnreadableFileError("unsupported_kind", "its suffix is none of those that are read")
            if size > limits.object_bytes:
                raise UnreadableFileError("too_large", f"{size} bytes; the limit is {limits.object_bytes}")
            target = folder / name
            _check_free(folder, target)
            got = _copy(fs, key, target, limits.object_bytes, uri)
        except UnreadableFileError as error:
            refused.append(Quarantined(printable(name), "", *(str(part) for part in error.args)))
            continue
        total += got
        if total > limits.total_bytes:
            raise BadInputError(f"{uri} has over {limits.total_bytes} bytes, the limit", limit=limits.total_bytes)
    if not count:
        raise BadInputError(f"there is nothing at {uri}", uri=uri)
    return refused


def _filesystem(uri: str) -> tuple[Any, str]:
    import fsspec

    scheme = uri.partition("://")[0]
    if scheme not in SCHEMES:
        raise BadInputError(f"{uri}: only {', '.join(f'{s}://' for s in SCHEMES)} are object stores")
    if ".." in uri.split("/"):
        raise BadInputError(f"{uri} goes up")
    try:
        fs, base = fsspec.core.url_to_fs(uri, use_listings_cache=False, skip_instance_cache=True)
    except ImportError as error:
        raise EnvironmentFaultError(f"{uri} needs {SCHEMES[scheme]}: {error}", scheme=scheme) from None
    return fs, str(base).rstrip("/")


def _listed(fs: Any, base: str, uri: str) -> Iterator[tuple[str, str, int]]:
    """Key, name below the prefix and size of each object, sorted by key."""
    with _store_errors(uri):
        found = fs.find(base, detail=True)
    for key in sorted(found):
        entry = found[key]
        if entry.get("type") == "directory" or (key.endswith("/") and not entry.get("size")):
            continue
        name = key[len(base) + 1 :] if key.startswith(f"{base}/") else posixpath.basename(key)
        yield key, name, int(entry.get("size") or 0)


def _check_free(folder: Path, target: Path) -> None:
    """Two keys may want one path: ``a`` and ``a/b``."""
    if target.exists() or any(parent.is_file() for parent in target.parents if parent.is_relative_to(folder)):
        raise UnreadableFileError("duplicate", "another object has this path, or one above it")


def _copy(fs: Any, key: str, target: Path, most: int, uri: str) -> int:
    """Stream one object; sizes in listings are not trusted."""
    size = 0
    target.parent.mkdir(parents=True, exist_ok=True)
    with _store_errors(uri), fs.open(key, "rb", block_size=_PIECE) as source, open(target, "xb") as handle:
        while piece := source.read(_PIECE):
            size += len(piece)
            if size > most:
                break
            handle.write(piece)
    if size > most:
        target.unlink()
        raise UnreadableFileError("too_large", f"over {most} bytes")
    return size


class _store_errors:  # noqa: N801 (used like a function)
    """Turn what object stores raise into one error that names the place."""

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: object) -> None:
        if error is None or isinstance(error, UnreadableFileError):
            return
        if isinstance(error, FileNotFoundError):
            raise BadInputError(f"there is nothing at {self.uri}", uri=self.uri) from None
        # The clients' own families have no common base; some are no OSErrors.
        if isinstance(error, OSError | ValueError) or type(error).__module__.startswith(_CLIENTS):
            raise EnvironmentFaultError(
                f"cannot read {self.uri}: {type(error).__name__}: {error}", uri=self.uri
            ) from None
