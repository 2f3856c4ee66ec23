"""The one typed configuration, composed of the sections that each folder owns (``sections/``).

``preset("laptop", ["serve.guard_replicas=2"])`` builds it; functions take their own section, never the whole.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError, model_validator

from cluster.core.errors import UsageError
from cluster.core.sections.adapt import AdaptSection
from cluster.core.sections.answer import AnswerSection
from cluster.core.sections.base import Section
from cluster.core.sections.cluster import ClusterSection
from cluster.core.sections.data import DataSection, IndexSection, RetrievalSection
from cluster.core.sections.serve import ServeSection
from cluster.core.sections.train import GateSection, TrainSection
from cluster.core.sections.trust import TrustSection


class PlinthConfig(Section):
    """Everything configurable, one section per folder."""

    cluster: ClusterSection = ClusterSection()
    data: DataSection = DataSection()
    index: IndexSection = IndexSection()
    retrieval: RetrievalSection = RetrievalSection()
    answer: AnswerSection = AnswerSection()
    train: TrainSection = TrainSection()
    gate: GateSection = GateSection()
    adapt: AdaptSection = AdaptSection()
    serve: ServeSection = ServeSection()
    trust: TrustSection = TrustSection()

    @model_validator(mode="after")
    def _nobody_unknown_from_outside(self) -> Self:
        if self.cluster.beyond_loopback and not self.trust.keys:
            host = self.cluster.host
            raise ValueError(f"cluster.host={host} with trust.keys=false would let anybody in: leave keys on")
        return self


def available_cpus() -> int:
    """CPUs this process may run on (respects taskset and containers)."""
    return len(os.sched_getaffinity(0)) or 1


def configured(base: PlinthConfig, overrides: Iterable[str] = ()) -> PlinthConfig:
    """Apply ``section.field=value`` overrides; values are JSON where they parse as JSON, else strings.

    A field of a part is ``section.field.setting`` (``serve.model_defaults.threads=1``), that of a named one in a list
    ``section.field.NAME.setting`` (``serve.tiers.quote.max_replicas=2``); a name that is not there yet is added.

    Raises:
        UsageError: unknown section or field, or a value of the wrong type; the message lists what exists.
    """
    values = base.model_dump()
    for item in overrides:
        key, separator, text = item.partition("=")
        section, dot, field = key.strip().partition(".")
        if not separator or not dot:
            raise UsageError(f"--set {item!r}: write section.field=value, for example serve.guard_replicas=2")
        if section not in values:
            raise UsageError(f"--set {item!r}: no section {section!r}; there are {', '.join(values)}")
        field, _, inner = field.partition(".")
        if field not in values[section]:
            near = get_close_matches(field, values[section], 1)
            meant = f" (did you mean {near[0]}?)" if near else ""
            has = ", ".join(values[section])
            raise UsageError(f"--set {item!r}: {section} has no field {field!r}{meant}; it has {has}")
        if inner:
            _set_inside(values[section], field, inner, _value(text), item)
        else:
            values[section][field] = _value(text)
    return parsed(values)


def _set_inside(section: dict[str, Any], field: str, inner: str, value: Any, item: str) -> None:
    """Set ``inner`` of a part of the configuration, or of one that is found by its name in a list."""
    part, (name, _, setting) = section[field], inner.rpartition(".")
    if isinstance(part, dict) and not name:
        part[setting] = value
    elif isinstance(part, list | tuple) and name:
        found = next((one for one in part if isinstance(one, dict) and one.get("name") == name), None)
        if found is None:
            found = {"name": name}
            section[field] = (*part, found)
        found[setting] = value
    else:
        form = f"{field}.SETTING" if isinstance(part, dict) else f"{field}.NAME.SETTING"
        raise UsageError(f"--set {item!r}: there is no such setting; parts are set one by one, as {form}=value")


def settings(section: Section, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    """Every setting as (its path after ``--set``, its value, what it means), those inside parts and lists included."""
    for field, info in type(section).model_fields.items():
        value, path = getattr(section, field), f"{prefix}{field}"
        parts = value if isinstance(value, tuple) and all(isinstance(one, Section) for one in value) else ()
        if not isinstance(value, Section):
            yield path, [one.name for one in parts] if parts else value, info.description or ""
        for name, part in [("", value)] if isinstance(value, Section) else [(f".{p.name}", p) for p in parts]:
            yield from settings(part, f"{path}{name}.")


def parsed(values: Any, where: str = "configuration") -> PlinthConfig:
    """Validate plain data into a PlinthConfig; every problem is named with its place."""
    try:
        return PlinthConfig.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise UsageError(f"{where}: {problems}") from None


def load_config(path: Path) -> PlinthConfig:
    """Read the configuration that `plinth up` wrote down.

    Raises:
        UsageError: it cannot be read, or an earlier version wrote it, whose settings are not all there any more.
    """
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read configuration {path}: {error}") from error
    if gone := _unknown(values):
        raise UsageError(
            f"{path} was made by an earlier version of Plinth and has settings that this one lacks "
            f"({', '.join(gone)}): run `plinth down`, then `plinth up --preset laptop` with your --set"
        )
    return parsed(values, str(path))


def _unknown(values: Any) -> list[str]:
    known = PlinthConfig().model_dump()
    sections = values if isinstance(values, dict) else {}
    return [
        f"{section}.{field}"
        for section, fields in sections.items()
        for field in (fields if isinstance(fields, dict) else ())
        if field not in known.get(section, ())
    ]


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
