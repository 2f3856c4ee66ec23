"""When two runs of a stage are the same run: its inputs, its settings and the code behind it.

Each stage declares one ``RunKey`` beside itself. Every field of the configuration is either in it or left out of it on
purpose; a test fails for a field that nobody declared, so that a new setting cannot reuse what another value made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cluster.core.code import source_hash
from cluster.core.config import PlinthConfig
from cluster.core.records import stable_hash
from cluster.core.sections.base import Section

SECTIONS = {name: field.annotation for name, field in PlinthConfig.model_fields.items()}


def every_field() -> frozenset[str]:
    """All fields of the configuration, as ``section.field``."""
    return frozenset(f"{name}.{field}" for name, section in SECTIONS.items() for field in _fields(section))


def sections_but(*handed: str) -> tuple[str, ...]:
    """``section.*`` of all sections that a stage is not handed; without arguments all there are."""
    return tuple(f"{name}.*" for name in SECTIONS if name not in handed)


@dataclass(frozen=True)
class RunKey:
    """What tells two runs of a stage apart.

    Attributes:
        stage: its name.
        code: dotted names of the modules whose source, followed through their imports, makes the result.
        inside: ``section.field`` or ``section.*``: settings that change the result.
        outside: the same form: settings that do not, or that the key holds in another form (a path as the hash of what
            is there).
    """

    stage: str
    code: tuple[str, ...]
    inside: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()

    def __call__(self, **parts: Any) -> str:
        """The key of a run with these inputs and settings."""
        return stable_hash({"stage": self.stage, **parts, "code": self.code_hash()})

    def code_hash(self) -> str:
        """Hash of the source behind the stage."""
        return source_hash(*self.code)

    def settings(self, section: Section) -> dict[str, Any]:
        """The fields of one section that belong into the key."""
        name = next(name for name, kind in SECTIONS.items() if kind is type(section))
        prefix = f"{name}."
        mine = {field.removeprefix(prefix) for field in expanded(self.inside) if field.startswith(prefix)}
        return section.model_dump(include=mine)


def expanded(fields: Iterable[str]) -> frozenset[str]:
    """``section.*`` written out.

    Raises:
        ValueError: a field or section that does not exist.
    """
    found: set[str] = set()
    for name in fields:
        section, _, field = name.partition(".")
        known = _fields(SECTIONS[section]) if section in SECTIONS else ()
        if not known or (field != "*" and field not in known):
            raise ValueError(f"the configuration has no field {name}")
        found |= {f"{section}.{one}" for one in (known if field == "*" else (field,))}
    return frozenset(found)


def _fields(section: Any) -> Mapping[str, Any]:
    fields: Mapping[str, Any] = section.model_fields
    return fields
