"""What may be used for what: named policies over sources and datasets (ray-free, no I/O).

A policy either holds or raises ``PolicyRefusedError`` (exit code 4) whose message and ``extras["policy"]`` name it:

    source-approved    somebody approved the source, by name and on a date that has come
    use-allowed        the source allows what the data is to be used for
    licence-allowed    its licence is on the allow-list ``data.licences``
    sensitivity        restricted data only where ``data.restricted`` says so
    access             what not everybody may read is trained on only where ``data.train_labelled`` says so

A plain folder given on the command line is its user's own: owner ``user``, licence ``unknown``, every use; the
policies are for sources of a catalogue, and for what is later done with the datasets made of them.
"""

from __future__ import annotations

import datetime
import re
from typing import Protocol

from cluster.core.errors import PolicyRefusedError
from cluster.core.records import Manifest
from cluster.core.sections.data import DataSection

POLICIES = ("source-approved", "use-allowed", "licence-allowed", "sensitivity")
USES = ("retrieval", "pretraining", "fine-tuning")
_TOKEN = re.compile(r"\(|\)|[^\s()]+")


class Governed(Protocol):
    """What the policies look at."""

    @property
    def name(self) -> str:
        """What messages call it."""
        ...

    @property
    def licence(self) -> str:
        """Its licence, an SPDX expression."""
        ...

    @property
    def sensitivity(self) -> str:
        """public, internal or restricted."""
        ...

    @property
    def uses(self) -> tuple[str, ...]:
        """What it may be used for, out of ``USES``."""
        ...

    @property
    def approved_by(self) -> str:
        """Who approved it; empty where nobody did."""
        ...

    @property
    def approved_on(self) -> datetime.date | None:
        """The day from which on the approval holds."""
        ...


def check_source(source: Governed, section: DataSection, today: datetime.date | None = None) -> None:
    """Every policy, for preparing a dataset of ``source`` for ``section.use``.

    Raises:
        PolicyRefusedError: the first policy that is violated, by name.
    """
    for policy, why in violations(source, section, today):
        raise refused(policy, f"source {source.name}: {why}", source=source.name)


def violations(source: Governed, section: DataSection, today: datetime.date | None = None) -> list[tuple[str, str]]:
    """All violated policies with the reason, in the order of ``POLICIES``."""
    today = today or datetime.datetime.now(datetime.UTC).date()
    found = []
    if not source.approved_by.strip() or source.approved_on is None:
        found.append(("source-approved", "nobody has approved it (approved_by and approved_on in the catalogue)"))
    elif source.approved_on > today:
        found.append(("source-approved", f"its approval starts on {source.approved_on}"))
    if section.use not in source.uses:
        allowed = ", ".join(source.uses) or "nothing"
        found.append(("use-allowed", f"it allows {allowed}, not {section.use}"))
    if not licence_allowed(source.licence, section.licences):
        found.append(("licence-allowed", f"its licence {source.licence} is not in data.licences"))
    if source.sensitivity == "restricted" and not section.restricted:
        found.append(("sensitivity", "it is restricted; set data.restricted=true where restricted data may be used"))
    return found


def check_use(dataset: Manifest, use: str, section: DataSection) -> None:
    """Whether a prepared dataset may be used for ``use``; training jobs ask before they read it.

    Datasets of plain folders, and those prepared before there were sources, allow everything.

    Raises:
        PolicyRefusedError: ``use-allowed``, ``sensitivity`` or, but for retrieval, ``access``: what is trained keeps
            the labels (``lineage.labels``), and must not be for everybody.
    """
    name, uses = f"dataset {dataset.name}@{dataset.version}", dataset.config.get("uses")
    if uses is not None and use not in uses:
        raise refused("use-allowed", f"{name}: its source allows {', '.join(uses) or 'nothing'}, not {use}",
                      dataset=dataset.name)  # fmt: skip
    if dataset.config.get("sensitivity") == "restricted" and not section.restricted:
        raise refused("sensitivity", f"{name} is restricted; set data.restricted=true where that may be used",
                      dataset=dataset.name)  # fmt: skip
    if use != "retrieval" and not section.train_labelled:
        check_open(dataset)


def check_open(*datasets: Manifest) -> None:
    """Whether everybody may read every document of these datasets or indexes: what learns from them may say what it has
    read, and answers everybody, unless it is a model whose labels are kept.

    Raises:
        PolicyRefusedError: ``access``.
    """
    for dataset in datasets:
        if labels := [label for label in dataset.counts.get("access", ()) if label]:
            count = sum(dataset.counts["access"][label] for label in labels)
            raise refused("access", f"{dataset.name}@{dataset.version}: {count} of its documents have access labels, "
                          "and what learns from them would answer everybody: train on documents without labels, or "
                          "set data.train_labelled=true for a model that answers only who may read all of them",
                          dataset=dataset.name)  # fmt: skip


def licence_allowed(expression: str, allowed: tuple[str, ...]) -> bool:
    """Whether an SPDX licence expression can be satisfied with the licences allowed.

    ``OR`` needs one side, ``AND`` both and binds tighter; ``X WITH exception`` counts as X; what cannot be parsed is
    not allowed. Names are compared without regard to case.
    """
    tokens = _TOKEN.findall(expression)
    names = {name.lower() for name in allowed}
    try:
        value, rest = _either(tokens, names)
    except (IndexError, RecursionError):
        return False
    return value and not rest


def _either(tokens: list[str], names: set[str]) -> tuple[bool, list[str]]:
    value, tokens = _both(tokens, names)
    while tokens and tokens[0].upper() == "OR":
        other, tokens = _both(tokens[1:], names)
        value = value or other
    return value, tokens


def _both(tokens: list[str], names: set[str]) -> tuple[bool, list[str]]:
    value, tokens = _one(tokens, names)
    while tokens and tokens[0].upper() == "AND":
        other, tokens = _one(tokens[1:], names)
        value = value and other
    return value, tokens


def _one(tokens: list[str], names: set[str]) -> tuple[bool, list[str]]:
    if tokens[0] == "(":
        value, rest = _either(tokens[1:], names)
        if rest[0] != ")":
            raise IndexError("unbalanced")
        return value, rest[1:]
    value, rest = tokens[0].lower() in names, tokens[1:]
    if rest and rest[0].upper() == "WITH":
        rest = rest[2:]
    return value, rest


def refused(policy: str, why: str, **extras: str) -> PolicyRefusedError:
    """The error of a violated policy, which names it for people and in ``extras``."""
    return PolicyRefusedError(f"policy `{policy}` refuses {why}", policy=policy, **extras)
