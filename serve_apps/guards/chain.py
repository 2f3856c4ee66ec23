"""The guards of a service, one after the other, as ``serve.guards`` lists them. A chain is itself a guard.

Adding a guard is a file that implements ``protocol.Guard`` and a line in ``GUARDS``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from cluster.core.config import PlinthConfig
from cluster.core.errors import UsageError
from cluster.core.records import Verdict
from serve_apps.errors import UnavailableError
from serve_apps.guards.characters import CharacterGuard
from serve_apps.guards.classifier import ClassifierGuard
from serve_apps.guards.personal import PersonalDataGuard
from serve_apps.guards.protocol import Guard, InputCheck, OutputCheck, Span
from serve_apps.guards.rules import RulesGuard

Check = TypeVar("Check", InputCheck, OutputCheck)

# Name in ``serve.guards`` -> what makes the guard from the configuration.
GUARDS: dict[str, Callable[[PlinthConfig], Guard]] = {
    CharacterGuard.name: lambda config: CharacterGuard(config.serve.max_prompt_chars),
    RulesGuard.name: lambda config: RulesGuard(),
    ClassifierGuard.name: ClassifierGuard.of,
    PersonalDataGuard.name: lambda config: PersonalDataGuard(config.data.redact, config.data.names),
}


def check_guard_names(names: Sequence[str]) -> None:
    """Refuse a list that names a guard nobody wrote.

    Raises:
        UsageError: names the first unknown one and those there are.
    """
    for name in names:
        if name not in GUARDS:
            raise UsageError(f"serve.guards: no guard {name!r}; there are {', '.join(GUARDS)}")


def guard_chain(config: PlinthConfig, classifier: bool = True) -> GuardChain:
    """The configured guards, loaded.

    Args:
        classifier: with the one that judges what is asked.

    Raises:
        UsageError: ``serve.guards`` names an unknown one.
    """
    check_guard_names(config.serve.guards)
    wanted = [name for name in config.serve.guards if classifier or name != ClassifierGuard.name]
    return GuardChain([GUARDS[name](config) for name in wanted])


class GuardChain:
    """Each guard sees the texts as the ones before it left them. The first that withholds a text ends the check; one
    that refuses and leaves the text as it is does not: a policy may let it go on, and then all must have seen it."""

    name = "chain"

    def __init__(self, guards: Sequence[Guard]) -> None:
        self._guards = tuple(guards)

    def without_classifier(self) -> GuardChain:
        """The same guards but for the one that judges what is asked."""
        return GuardChain([guard for guard in self._guards if not isinstance(guard, ClassifierGuard)])

    def follow(self) -> None:
        """Have the guards that are trained use what goes live from now on; needs the running loop."""
        for guard in self._guards:
            if isinstance(guard, ClassifierGuard):
                guard.follow()

    def check_input(self, texts: Sequence[str]) -> list[InputCheck]:
        """Texts as every guard lets them go on, with the verdicts of all."""
        checks = [InputCheck(text) for text in texts]
        for guard in self._guards:
            found = _complete(guard, guard.check_input([check.text for check in checks]), len(texts))
            checks = [
                InputCheck(new.text, (*old.verdicts, *_signed(new.verdicts, guard)))
                for old, new in zip(checks, found, strict=True)
            ]
            if any(check.blocked and not check.text for check in checks):
                break
        return checks

    def check_output(self, texts: Sequence[str]) -> list[OutputCheck]:
        """What all guards found in the texts, their spans as one list each."""
        checks = [OutputCheck() for _ in texts]
        for guard in self._guards:
            found = _complete(guard, guard.check_output(texts), len(texts))
            checks = [
                OutputCheck(merged((*old.spans, *new.spans)), (*old.verdicts, *_signed(new.verdicts, guard)))
                for old, new in zip(checks, found, strict=True)
            ]
            if any(check.blocked for check in checks):
                break
        return checks


def merged(spans: Sequence[Span]) -> tuple[Span, ...]:
    """Spans of several guards, sorted; those that overlap become one of the type that begins first."""
    found: list[Span] = []
    for span in sorted(spans, key=lambda one: (one.start, -one.end)):
        if found and span.start < found[-1].end:
            found[-1] = replace(found[-1], end=max(found[-1].end, span.end))
        else:
            found.append(span)
    return tuple(found)


def _complete(guard: Guard, checks: list[Check], texts: int) -> list[Check]:
    if len(checks) != texts:
        raise UnavailableError(f"the guard {guard.name} checked {len(checks)} texts of {texts}")
    return checks


def _signed(verdicts: Sequence[Verdict], guard: Guard) -> tuple[Verdict, ...]:
    return tuple(replace(verdict, guard=guard.name) for verdict in verdicts)
