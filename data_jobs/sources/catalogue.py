"""The catalogue of sources: ``sources.yaml``, what each entry says, and how its files come to be read.

::

    sources:
      handbook:
        location: ./handbook            # a folder, a glob, a file, https://, s3://, gs://, hf://datasets/ORG/NAME
        format: auto                    # or one of the extractors' kinds: text jsonl html pdf docx parquet warc ...
        owner: Ann Example <ann@example.org>
        licence: CC-BY-4.0
        sensitivity: internal           # public | internal | restricted
        access: {tenant: acme, groups: [hr]}   # who may read it; without: whoever may ask the collection
        approved_by: Data Board
        approved_on: 2026-05-01
        uses: [retrieval, pretraining]  # of retrieval, pretraining, fine-tuning

Relative paths are relative to the file. Sources that are built in (``registry``) are always in it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cluster.core.errors import UsageError
from cluster.core.plain_yaml import load_plain
from cluster.core.sections.data import DataSection
from cluster.core.storage import check_name
from data_jobs.governance.policies import check_source
from data_jobs.sources.entry import CatalogueEntry
from data_jobs.sources.registry import BUILT_IN

FILE_NAME = "sources.yaml"
MAX_BYTES = 4 << 20


def load_catalogue(path: Path | None) -> dict[str, CatalogueEntry]:
    """All entries by name, the built-in ones first; without a file only those.

    Raises:
        UsageError: the file is not there, not YAML, or says something that is not understood; the message says where.
    """
    found = dict(BUILT_IN)
    if path is None:
        return found
    body = _read(path)
    entries = body.get("sources") if isinstance(body, Mapping) else None
    if not isinstance(entries, Mapping) or set(body) != {"sources"}:
        raise UsageError(f"{path}: it must hold one mapping, `sources`, of names to sources")
    for name, entry in entries.items():
        if not isinstance(name, str) or not isinstance(entry, Mapping):
            raise UsageError(f"{path}: sources.{name}: a name and a mapping are needed")
        check_name(name)
        if name in BUILT_IN:
            raise UsageError(f"{path}: sources.{name}: this name is built in")
        if "name" in entry:
            raise UsageError(f"{path}: sources.{name}.name: the key is the name")
        try:
            declared = CatalogueEntry(name=name, **{str(key): value for key, value in entry.items()})
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise UsageError(f"{path}: sources.{name}: {problems}") from None
        found[name] = declared if declared.remote else _absolute(declared, path)
    return found


def _read(path: Path) -> Any:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UsageError(f"{path} is over {MAX_BYTES} bytes")
        return load_plain(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read the catalogue {path}: {' '.join(str(error).split())[:300]}") from None


def _absolute(entry: CatalogueEntry, catalogue: Path) -> CatalogueEntry:
    base = catalogue.expanduser().absolute().parent
    return entry.model_copy(update={"location": os.path.normpath(base / Path(entry.location).expanduser())})


def catalogue_path(section: DataSection) -> Path | None:
    """The file that the configuration names as its catalogue, if it names one."""
    return Path(section.sources).expanduser() if section.sources else None


def find_entry(section: DataSection) -> CatalogueEntry | None:
    """The entry that ``section.source`` names; None for a plain folder where there is no catalogue.

    Raises:
        UsageError: there is a catalogue, and it has no such source.
    """
    known = load_catalogue(catalogue_path(section))
    if section.source in known:
        return known[section.source]
    if section.sources:
        raise UsageError(
            f"{section.sources} has no source {section.source!r}; it has {', '.join(known)}. "
            f"A folder that is not in the catalogue is prepared without --sources"
        )
    return None


def governed(section: DataSection) -> tuple[DataSection, CatalogueEntry | None]:
    """The section with licence, owner, sensitivity, access and uses of its source, every policy checked.

    Raises:
        PolicyRefusedError: a policy is violated.
        UsageError: there is no such source.
    """
    entry = find_entry(section)
    if entry is None:
        return section, None
    check_source(entry, section)
    marks = {name: getattr(entry, name) for name in ("licence", "owner", "sensitivity", "access", "uses")}
    return section.model_copy(update={**marks, "name": section.name or entry.name}), entry
