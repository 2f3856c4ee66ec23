"""The catalogue of sources: ``sources.yaml``, what each entry says, and how its files come to be read.

::

    sources:
      handbook:
        location: ./handbook            # a folder, a glob, a file, https://, s3://, gs://, hf://datasets/ORG/NAME
        format: auto                    # or one of the extractors' kinds: text jsonl html pdf docx parquet warc ...
        owner: Ann Example <ann@example.org>
        licence: CC-BY-4.0
        sensitivity: internal           # public | internal | restricted
        approved_by: Data Board
        approved_on: 2026-05-01
        uses: [retrieval, pretraining]  # of retrieval, pretraining, fine-tuning

Relative paths are relative to the file. ``pydocs``, the standard library's documentation, is always in it.
"""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from cluster.core.errors import BadInputError, UsageError
from cluster.core.sections.data import DataSection
from cluster.core.storage import check_name
from data_jobs.extractors.registry import KINDS
from data_jobs.governance import policies as governance

Use = Literal["retrieval", "pretraining", "fine-tuning"]
FILE_NAME = "sources.yaml"
MAX_BYTES = 4 << 20
PYDOCS = "pydocs"
_MAGIC = re.compile(r"[*?\[]")
_REMOTE = re.compile(r"([a-z][a-z0-9+.-]*)://", re.I)


class Source(BaseModel):
    """One entry. ``approved_by`` empty: not approved."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True, use_attribute_docstrings=True)

    name: str
    location: str = Field(min_length=1, max_length=4000)
    """Where it is: a folder, a glob, a file, or a URL of the schemes https, s3, gs, hf."""
    format: str = "auto"
    """`auto`, or the one format that is read; files of other formats are quarantined."""
    owner: str = Field(min_length=1, max_length=200)
    """Who answers for it."""
    licence: str = Field(min_length=1, max_length=200)
    """SPDX expression."""
    sensitivity: Literal["public", "internal", "restricted"]
    """Who may see it."""
    approved_by: str = ""
    """Who approved it."""
    approved_on: datetime.date | None = None
    """From which day on."""
    uses: tuple[Use, ...] = ()
    """What it may be used for."""

    @field_validator("format")
    @classmethod
    def _known_format(cls, value: str) -> str:
        if value not in ("auto", *KINDS):
            raise ValueError(f"there is no format {value!r}; there are auto, {', '.join(KINDS)}")
        return value

    @field_validator("location")
    @classmethod
    def _usable_location(cls, value: str) -> str:
        scheme = _REMOTE.match(value)
        if scheme and scheme[1].lower() not in ("https", "s3", "gs", "hf"):
            raise ValueError(f"{scheme[1]}:// is not read; there are https, s3, gs, hf and paths")
        return value

    @property
    def remote(self) -> str:
        """The scheme of its location, empty for a path."""
        found = _REMOTE.match(self.location)
        return found[1].lower() if found else ""

    def to_dict(self) -> dict[str, Any]:
        return self.model_dump(mode="json")


BUILT_IN = Source(
    name=PYDOCS, location=PYDOCS, owner="Python Software Foundation", licence="PSF-2.0", sensitivity="public",
    approved_by="Plinth (built in)", approved_on=datetime.date(2024, 1, 1),
    uses=("retrieval", "pretraining", "fine-tuning"),
)  # fmt: skip


def load_catalogue(path: Path | None) -> dict[str, Source]:
    """All sources by name, the built-in one first; without a file only that one.

    Raises:
        UsageError: the file is not there, not YAML, or says something that is not understood; the message says where.
    """
    found = {PYDOCS: BUILT_IN}
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
        if name == PYDOCS:
            raise UsageError(f"{path}: sources.{name}: this name is built in")
        if "name" in entry:
            raise UsageError(f"{path}: sources.{name}.name: the key is the name")
        try:
            source = Source(name=name, **{str(key): value for key, value in entry.items()})
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise UsageError(f"{path}: sources.{name}: {problems}") from None
        found[name] = source if source.remote else _absolute(source, path)
    return found


def _read(path: Path) -> Any:
    import yaml

    class OnceLoader(yaml.SafeLoader):
        """Plain data only; a key given twice is an error, not an override, and aliases are not followed."""

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.events.AliasEvent):
                raise yaml.constructor.ConstructorError(
                    None, None, "aliases are not allowed", self.peek_event().start_mark
                )
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            double = next((key for at, key in enumerate(keys) if key in keys[:at]), None)
            if double is not None:
                raise yaml.constructor.ConstructorError(None, None, f"{double!r} is there twice", node.start_mark)
            return super().construct_mapping(node, deep)

    try:
        if path.stat().st_size > MAX_BYTES:
            raise UsageError(f"{path} is over {MAX_BYTES} bytes")
        # A subclass of the safe loader.
        return yaml.load(path.read_text(encoding="utf-8"), Loader=OnceLoader)  # noqa: S506
    except (OSError, UnicodeDecodeError, RecursionError, TypeError, yaml.YAMLError) as error:
        raise UsageError(f"cannot read the catalogue {path}: {' '.join(str(error).split())[:300]}") from None


def _absolute(source: Source, catalogue: Path) -> Source:
    base = catalogue.expanduser().absolute().parent
    return source.model_copy(update={"location": os.path.normpath(base / Path(source.location).expanduser())})


def catalogue_path(section: DataSection) -> Path | None:
    return Path(section.sources).expanduser() if section.sources else None


def find_source(section: DataSection) -> Source | None:
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


def governed(section: DataSection) -> tuple[DataSection, Source | None]:
    """The section with licence, owner, sensitivity and uses of its source, every policy checked.

    Raises:
        PolicyRefusedError: a policy is violated.
        UsageError: there is no such source.
    """
    source = find_source(section)
    if source is None:
        return section, None
    governance.check_source(source, section)
    marks = {name: getattr(source, name) for name in ("licence", "owner", "sensitivity", "uses")}
    return section.model_copy(update={**marks, "name": section.name or source.name}), source


def split_glob(location: str) -> tuple[Path, str]:
    """The folder a local location is in, and the pattern of paths below it (empty: all of them).

    Raises:
        BadInputError: a file that is not there.
    """
    path = Path(location)
    if not _MAGIC.search(location):
        if path.is_file():
            return path.parent, _literal(path.name)
        return path, ""
    parts = path.parts
    first = next(at for at, part in enumerate(parts) if _MAGIC.search(part))
    folder = Path(*parts[:first])
    if not folder.is_dir():
        raise BadInputError(f"there is no folder {folder} for the pattern {location}")
    return folder, "/".join(parts[first:])


def _literal(name: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", name)


def matches(pattern: str, path: str) -> bool:
    """Whether a path matches a glob: ``*`` and ``?`` within one part, ``**`` any number of parts."""
    return not pattern or _glob(pattern).fullmatch(path) is not None


def _glob(pattern: str) -> re.Pattern[str]:
    """``[...]`` as in fnmatch. Every star stops at a slash, so that matching stays linear in practice."""
    out = []
    for part in pattern.split("/"):
        if part == "**":
            out.append("(?:[^/]+/)*")
            continue
        at, made = 0, ""
        while at < len(part):
            end = part.find("]", at + 2) if part[at] == "[" else -1
            if end > 0:
                inside = part[at + 1 : end].replace("\\", "\\\\").replace("[", "\\[")
                made += f"[^{inside[1:]}]" if inside[0] == "!" else f"[{inside}]"
                at = end
            else:
                made += {"*": "[^/]*", "?": "[^/]"}.get(part[at], re.escape(part[at]))
            at += 1
        out.append(f"{made}/")
    return re.compile("".join(out).removesuffix("/") if pattern.split("/")[-1] != "**" else "".join(out) + "[^/]+")
