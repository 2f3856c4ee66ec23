"""Which guard may do what, for whom: ``policies.yaml``, applied to the verdicts of the guards. Pure.

A policy loosens or tightens the guards ``rules``, ``classifier`` and ``personal_data``. It cannot give a classifier
more than it has earned (``data_jobs.safety.head``), nor touch what nothing downstream could bear (``characters``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator

from cluster.core.errors import UsageError
from cluster.core.plain_yaml import load_plain
from cluster.core.records import Verdict
from cluster.core.sections.base import Section
from data_jobs.safety.rules import CATEGORIES, INJECTION, load_rules

SHIPPED = Path(__file__).parent / "policies.yaml"
MOST_BYTES = 1_000_000
NAME = r"^[a-z0-9][a-z0-9._-]{0,63}$"


class ClassifierPolicy(Section):
    """What a head of the classifier does."""

    action: Literal["earned", "flag", "review", "off"] = "earned"
    """`earned`: blocks where its card says that it reached its bar, else flags. Nothing else makes it block."""
    threshold: float | None = Field(None, allow_inf_nan=False)
    """Log-odds from which on a text counts, where higher than the head's own."""


class Policy(Section):
    """What holds for some tenants and collections."""

    name: str = Field(pattern=NAME)
    """What verdicts call it."""
    tenants: tuple[str, ...] = ()
    """For whom; empty: for all."""
    collections: tuple[str, ...] = ()
    """Where, by name, also for those who name none and get the default one; empty: everywhere."""
    rules: dict[str, Literal["block", "flag", "review", "off"]] = Field(default_factory=dict)
    """By category (`injection`, `harmful`) or by a rule's id, which goes before its category. `review`: what is found
    goes on as with `flag`, and into the queue that people look at (`plinth review`)."""
    classifier: dict[str, ClassifierPolicy] = Field(default_factory=dict)
    """By category."""
    personal_data: Literal["redact", "block"] | None = None
    """Whether personal data is replaced, or refused."""

    @field_validator("rules")
    @classmethod
    def _rules_exist(cls, rules: dict[str, Any]) -> dict[str, Any]:
        known = {*CATEGORIES, *categories()}
        if unknown := sorted(rules.keys() - known):
            raise ValueError(f"no rule or category {unknown[0]!r}; there are {', '.join(sorted(known))}")
        return rules

    @field_validator("classifier")
    @classmethod
    def _heads_exist(cls, heads: dict[str, Any]) -> dict[str, Any]:
        if unknown := sorted(heads.keys() - set(CATEGORIES)):
            raise ValueError(f"no head {unknown[0]!r}; there are {', '.join(CATEGORIES)}")
        return heads


class PolicyFile(Section):
    """A file of policies. All that fit hold, the later one where two say something about the same."""

    version: str = Field(min_length=1, max_length=64)
    """Whoever changes a file changes it: verdicts carry it."""
    policies: tuple[Policy, ...] = Field(min_length=1)

    @field_validator("policies")
    @classmethod
    def _named_once(cls, policies: tuple[Policy, ...]) -> tuple[Policy, ...]:
        names = [policy.name for policy in policies]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two policies are called {twice[0]!r}")
        return policies


@dataclass(frozen=True)
class Policies:
    """Policies in force."""

    file: PolicyFile

    @property
    def by_collection(self) -> bool:
        """Whether any of them holds for some collections only."""
        return any(policy.collections for policy in self.file.policies)

    def applied(self, verdicts: Sequence[Verdict], tenant: str, collection: str) -> tuple[Verdict, ...]:
        """What the guards' verdicts come to for a tenant and a collection, and by which policy; those switched off
        are left out."""
        found = (self._applied(verdict, tenant, collection) for verdict in verdicts)
        return tuple(verdict for verdict in found if verdict is not None)

    def _applied(self, verdict: Verdict, tenant: str, collection: str) -> Verdict | None:
        name, action = "", ""
        for policy in self.file.policies:
            fits = _within(tenant, policy.tenants) and _within(collection, policy.collections)
            if fits and (said := _said(policy, verdict)):
                name, action = policy.name, said
        if action == "off":
            return None
        if not action:
            return verdict
        verdict = replace(verdict, policy=f"{name}@{self.file.version}")
        if action == "flag" and verdict.action == "block":
            return replace(verdict, action="flag")
        if action == "review" and verdict.action in ("block", "flag"):
            return replace(verdict, action="review")
        if action == "block" and verdict.action == "redact":
            return replace(verdict, action="block", detail="personal data is refused here")
        return verdict


def _within(name: str, names: Sequence[str]) -> bool:
    return not names or name in names


def _said(policy: Policy, verdict: Verdict) -> str:
    """What a policy says about such a verdict: an action, `off`, or nothing."""
    if verdict.guard == "rules":
        return policy.rules.get(verdict.rule) or policy.rules.get(categories().get(verdict.rule, "")) or ""
    if verdict.guard == "classifier":
        head = policy.classifier.get(verdict.rule.removeprefix("classifier_"))
        if head is None:
            return ""
        below = head.threshold is not None and verdict.score < head.threshold
        return "off" if below else head.action
    if verdict.guard == "personal_data":
        return policy.personal_data or ""
    return ""


@cache
def categories() -> dict[str, str]:
    """The category of each rule, by its id."""
    return {rule.id: rule.category for rule in load_rules().rules}


def is_injection(verdict: Verdict) -> bool:
    """Whether a verdict is that of a rule which found an injection, not a mention of one."""
    return verdict.guard == "rules" and not verdict.allowed and categories().get(verdict.rule) == INJECTION


def load_policies(path: str = "") -> Policies:
    """The policies of a file; empty: those that are shipped.

    Raises:
        UsageError: there is no such file, or it says something else; the message names the place.
    """
    file = Path(path).expanduser() if path else SHIPPED
    try:
        body = file.read_bytes()
    except OSError as error:
        raise UsageError(f"trust.policies: cannot read {file}: {error.strerror}") from error
    if len(body) > MOST_BYTES:
        raise UsageError(f"trust.policies: {file.name} has {len(body)} bytes, more than {MOST_BYTES}")
    return Policies(parse_policies(body.decode("utf-8", errors="replace"), file.name))


def parse_policies(text: str, where: str = SHIPPED.name) -> PolicyFile:
    """Policies out of YAML.

    Raises:
        UsageError: it is none, a key is unknown or given twice, or a value is wrong; the message names the place.
    """
    try:
        return PolicyFile.model_validate(load_plain(text))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise UsageError(f"{where}: {place}: {first['msg'].removeprefix('Value error, ')}") from error
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from error
