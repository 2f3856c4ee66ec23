"""Which guard may do what, for whom: ``policies.yaml``, applied to the verdicts of the guards. Pure.

A policy loosens or tightens the guards ``rules``, ``classifier`` and ``personal_data``. It cannot give a classifier
more than it has earned (``data_jobs.safety.head``), nor touch what nothing downstream could bear (``characters``).
"""

from __future__ import annotations

import errno
import stat
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator

from cluster.core.errors import UsageError
from cluster.core.plain_yaml import line_of, load_plain
from cluster.core.records import Verdict
from cluster.core.sections.base import Section
from data_jobs.safety.rules import CATEGORIES, INJECTION, load_rules
from serve_apps.guards.forbidden import FEWEST, LONGEST, Forbidden, comparable
from serve_apps.guards.protocol import OUT

SHIPPED = Path(__file__).parent / "policies.yaml"
MOST_BYTES = 1_000_000
MOST_FORBIDDEN = 200  # texts of one policy
FORBIDDEN_TEXT = "forbidden_text"  # the rule of what no answer may hold
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
    forbidden: tuple[str, ...] = Field((), max_length=MOST_FORBIDDEN)
    """Texts that may not leave, in whatever letters and however they are spaced; those of all policies that fit."""
    output: dict[str, Literal["block", "flag", "off"]] = Field(default_factory=dict)
    """What `rules` does with what goes out, by category or a rule's id; nothing where this says nothing. Where
    something is blocked, an answer leaves only once all of it is there."""

    def fits(self, tenant: str, collection: str) -> bool:
        """Whether it holds for a tenant and a collection."""
        return _within(tenant, self.tenants) and _within(collection, self.collections)

    @field_validator("forbidden")
    @classmethod
    def _can_be_found(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        for place, text in enumerate(texts):
            if len(comparable(text)) < FEWEST or len(text) > LONGEST:
                raise ValueError(f"text {place} needs {FEWEST} letters or digits, and at most {LONGEST} characters")
        return texts

    @field_validator("rules", "output")
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

    version: str = Field(min_length=1, max_length=64, coerce_numbers_to_str=True)
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

    def forbidden(self, tenant: str, collection: str) -> Forbidden:
        """The texts that may not leave."""
        fits = (policy for policy in self.file.policies if policy.fits(tenant, collection))
        return _forbidden(tuple(text for policy in fits for text in policy.forbidden))

    def output(self, tenant: str, collection: str) -> frozenset[str]:
        """The actions that ``rules`` may take on what goes out; empty where it need not look."""
        fits = (policy for policy in self.file.policies if policy.fits(tenant, collection))
        said: dict[str, str] = {}
        for policy in fits:
            said |= policy.output
        return frozenset(said.values()) - {"off"}

    def withheld(self, text: str, tenant: str, collection: str) -> tuple[Verdict, ...]:
        """A verdict where a text holds a forbidden one. It does not say which: verdicts are shown to who asks."""
        if not self.forbidden(tenant, collection).inside(text):
            return ()
        named = next(
            one.name for one in reversed(self.file.policies)
            if one.fits(tenant, collection) and Forbidden(one.forbidden).inside(text)
        )  # fmt: skip
        return (Verdict(OUT, "block", FORBIDDEN_TEXT, "the text holds what may not leave here", guard="policy",
                        version=self.file.version, policy=f"{named}@{self.file.version}"),)  # fmt: skip

    def applied(self, verdicts: Sequence[Verdict], tenant: str, collection: str) -> tuple[Verdict, ...]:
        """What the guards' verdicts come to for a tenant and a collection, and by which policy; those switched off
        are left out."""
        found = (self._applied(verdict, tenant, collection) for verdict in verdicts)
        return tuple(verdict for verdict in found if verdict is not None)

    def _applied(self, verdict: Verdict, tenant: str, collection: str) -> Verdict | None:
        name, action = "", ""
        for policy in self.file.policies:
            if policy.fits(tenant, collection) and (said := _said(policy, verdict)):
                name, action = policy.name, said
        if action == "off" or (not action and verdict.guard == "rules" and verdict.stage == OUT):
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
        actions = policy.output if verdict.stage == OUT else policy.rules
        return actions.get(verdict.rule) or actions.get(categories().get(verdict.rule, "")) or ""
    if verdict.guard == "classifier":
        head = policy.classifier.get(verdict.rule.removeprefix("classifier_"))
        if head is None:
            return ""
        below = head.threshold is not None and verdict.score < head.threshold
        return "off" if below else head.action
    if verdict.guard == "personal_data":
        return policy.personal_data or ""
    return ""


@lru_cache(maxsize=256)
def _forbidden(texts: tuple[str, ...]) -> Forbidden:
    return Forbidden(texts)


@cache
def categories() -> dict[str, str]:
    """The category of each rule, by its id."""
    return {rule.id: rule.category for rule in load_rules().rules}


def is_injection(verdict: Verdict) -> bool:
    """Whether a verdict is that of a rule which found an injection, not a mention of one."""
    return verdict.guard == "rules" and not verdict.allowed and categories().get(verdict.rule) == INJECTION


def policy_bytes(file: Path) -> bytes:
    """What a file of policies holds. A device may have no end, and a pipe keeps one waiting.

    Raises:
        OSError: it cannot be read, is no regular file, or has more than ``MOST_BYTES``.
    """
    if not stat.S_ISREG(file.stat().st_mode):
        raise OSError(errno.EINVAL, "it is no regular file")
    with file.open("rb") as handle:
        body = handle.read(MOST_BYTES + 1)
    if len(body) > MOST_BYTES:
        raise OSError(errno.EFBIG, f"it has more than {MOST_BYTES:,} bytes")
    return body


def load_policies(path: str = "") -> Policies:
    """The policies of a file; empty: those that are shipped.

    Raises:
        UsageError: there is no such file, or it says something else; the message names the place.
    """
    file = Path(path).expanduser() if path else SHIPPED
    try:
        body = policy_bytes(file)
    except OSError as error:
        raise UsageError(f"trust.policies: cannot read {file}: {error.strerror}") from error
    return Policies(parse_policies(body.decode("utf-8", errors="replace"), file.name))


@dataclass(frozen=True)
class Problem:
    """What is wrong with a file: the line, from 1 (0: none is known), the field, and what to do."""

    line: int
    field: str
    message: str

    def told(self, where: str) -> str:
        """As one line."""
        line = f", line {self.line}" if self.line else ""
        return ": ".join(filter(None, (f"{where}{line}", self.field, self.message)))


def parse_policies(text: str, where: str = SHIPPED.name) -> PolicyFile:
    """Policies out of YAML.

    Raises:
        UsageError: it is none, a key is unknown or given twice, or a value is wrong; the message names the place.
    """
    found = read_policies(text)
    if isinstance(found, PolicyFile):
        return found
    raise UsageError(found[0].told(where))


def read_policies(text: str) -> PolicyFile | list[Problem]:
    """Policies out of YAML, or all that is wrong with it."""
    try:
        return PolicyFile.model_validate(load_plain(text))
    except ValidationError as error:
        found = error.errors()
        # What holds something that is wrong is called wrong itself: only the inmost is told.
        inmost = [one for one in found if not any(_within_it(other["loc"], one["loc"]) for other in found)]
        return [
            Problem(line_of(text, one["loc"]), ".".join(map(str, one["loc"])) or "the file", _said_of(one))
            for one in inmost
        ]
    except ValueError as error:
        return [Problem(0, "", str(error))]


def _within_it(place: tuple[int | str, ...], outer: tuple[int | str, ...]) -> bool:
    return len(place) > len(outer) and place[: len(outer)] == outer


def _said_of(error: Any) -> str:
    """What is wrong, and what to do."""
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        places: dict[int, type[Section]] = {1: PolicyFile, 3: Policy}
        inside = places.get(len(error["loc"]), ClassifierPolicy)
        return f"there is no such setting; there are {', '.join(inside.model_fields)}"
    if error["type"] == "missing":
        return "it is missing: write it down"
    if error["type"] == "literal_error" and isinstance(error["input"], bool):
        return f'{message}; YAML takes a bare off for false: write "off"'
    return message
