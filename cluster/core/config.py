"""The one typed configuration, composed of the sections that each folder owns (``sections/``).

``preset("laptop", ["serve.guard_replicas=2"])`` builds it; functions take their own section, never the whole.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cluster.core.errors import UsageError
from cluster.core.sections.base import Section
from cluster.core.sections.cluster import ClusterSection
from cluster.core.sections.data import DataSection, IndexSection, RetrievalSection
from cluster.core.sections.serve import AnswerSection, ServeSection
from cluster.core.sections.train import GateSection, TrainSection


class PlinthConfig(Section):
    """Everything configurable, one section per folder."""

    cluster: ClusterSection = ClusterSection()
    data: DataSection = DataSection()
    index: IndexSection = IndexSection()
    retrieval: RetrievalSection = RetrievalSection()
    answer: AnswerSection = AnswerSection()
    train: TrainSection = TrainSection()
    gate: GateSection = GateSection()
    serve: ServeSection = ServeSection()


def available_cpus() -> int:
    """CPUs this process may run on (respects taskset and containers)."""
    return len(os.sched_getaffinity(0)) or 1


def configured(base: PlinthConfig, overrides: Iterable[str] = ()) -> PlinthConfig:
    """Apply ``section.field=value`` overrides; values are JSON where they parse as JSON, else strings.

    Raises:
        UsageError: unknown section or field, or a value of the wrong type; the message lists what exists.
    """
    values = base.model_dump()
    for item in overrides:
        key, separator, text = item.partition("=")
        section, dot, field = key.strip().partition(".")
        if not separator or not dot:
            raise UsageError(f"--set {item!r}: write section.field=value, for example serve.quote_replicas=2")
        if section not in values:
            raise UsageError(f"--set {item!r}: no section {section!r}; there are {', '.join(values)}")
        if field not in values[section]:
            raise UsageError(f"--set {item!r}: {section} has no field {field!r}; it has {', '.join(values[section])}")
        values[section][field] = _value(text)
    return parsed(values)


def parsed(values: Any, where: str = "configuration") -> PlinthConfig:
    """Validate plain data into a PlinthConfig; every problem is named with its place."""
    try:
        return PlinthConfig.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise UsageError(f"{where}: {problems}") from None


def load_config(path: Path) -> PlinthConfig:
    """Read a configuration written by ``save_config``."""
    try:
        return parsed(json.loads(path.read_text()), str(path))
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read configuration {path}: {error}") from error


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
