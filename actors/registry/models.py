"""The model registry: immutable versions, three aliases, an append-only history. Storage is the truth; needs no ray.

A version is an artefact of kind ``models`` with a ``plinth.json`` that says what it is. Aliases of a model:
``candidate`` (the newest registered), ``champion`` (passed its gate; it alone answers ``model: "auto"``), ``previous``.

A promotion writes its event first and moves the aliases after it, ``previous`` before ``champion``. A kill in between
leaves the old champion in place; the next call that writes completes the move from the event (``_settle``).
"""

from __future__ import annotations

import dataclasses
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from actors.registry import audits, history
from actors.registry.history import Event, EventName
from actors.registry.metadata import check_metadata
from cluster.core.errors import BadInputError, PolicyRefusedError
from cluster.core.records import Manifest
from cluster.core.storage import NAME, Store

if TYPE_CHECKING:
    from actors.policies.gate import GateResult

KIND = "models"
CANDIDATE, CHAMPION, PREVIOUS = "candidate", "champion", "previous"
ALIASES = (CHAMPION, CANDIDATE, PREVIOUS)


@dataclass(frozen=True)
class Served:
    """The version a service answers with. Only a ``champion`` may answer ``model: "auto"``."""

    version: str
    champion: bool
    manifest: Manifest


@dataclass(frozen=True)
class Registered:
    """A registered version: its manifest, its plinth.json, its aliases and the last word of the gate on it."""

    manifest: Manifest
    metadata: dict[str, Any]
    aliases: tuple[str, ...]
    registered_at: str
    gate: Event | None
    tainted: tuple[str, ...] = ()  # why: it saw what was forgotten since

    @property
    def version(self) -> str:
        """The version's id in the store: what follows the @ in ``name@version``."""
        return self.manifest.version

    @property
    def verdict(self) -> str:
        """``passed``, ``refused`` or ``not judged``."""
        if self.gate is None:
            return "not judged"
        return "passed" if self.gate.event == "gate_passed" else "refused"


class Registry:
    """Reads and writes the registry of one store.

    Raises:
        BadInputError: there is no such model or version.
        IntegrityError: a version's files are not what its manifest says.
        EnvironmentFaultError: the storage is full or not writable.
    """

    def __init__(self, store: Store, actor: str = "") -> None:
        self.store = store
        self._actor = actor or history.who()

    # -- writing ------------------------------------------------------------------------------------------------------
    def register(self, name: str, version: str, metadata: Mapping[str, Any] | None = None) -> Manifest:
        """Take a published version into the registry and make it the candidate. Again changes nothing.

        Args:
            name: of the model.
            version: published under kind ``models``, with a complete ``plinth.json``.
            metadata: if given, what the caller believes ``plinth.json`` to say.

        Raises:
            UsageError: a required field of the metadata is missing (it is named) or wrong.
            PolicyRefusedError: ``metadata`` differs from what the version was published with.
        """
        manifest = self.store.manifest(KIND, name, version)
        self.store.verify(manifest)
        published = self._metadata(manifest)
        check_metadata(name, published)
        if metadata is not None and (changed := _differences(published, metadata)):
            raise PolicyRefusedError(
                f"{name}@{version} is immutable: its {changed[0]} is {published.get(changed[0])!r}, not "
                f"{metadata.get(changed[0])!r}; publish a new version instead",
                fields=changed,
            )
        with history.writing(self.store, name):
            events = self._settle(name)
            if not any(e.event == "registered" and e.version == version for e in events):
                events.append(self._append(name, events, "registered", version))
            if self.store.alias(KIND, name, CANDIDATE) != version:
                events.append(self._append(name, events, "candidate", version))
                self.store.move_alias(KIND, name, CANDIDATE, version, f"event {events[-1].seq}")
        return manifest

    def promote(self, name: str, version: str, gate: GateResult, report: str = "") -> None:
        """Make a version that passed its gate the champion; the champion so far becomes ``previous``.

        Args:
            name, version: a registered version.
            gate: the decision, with its checks.
            report: ``name@version`` of the gate report (kind ``gates``) it was made on.

        Raises:
            PolicyRefusedError: the gate did not pass, or its report is about another version.
        """
        if not gate.passed:
            raise PolicyRefusedError(f"{name}@{version} did not pass its gate and stays as it is: {gate.reason}")
        self._check_report(name, version, report)
        with history.writing(self.store, name):
            events = self._settle(name)
            self._registered(name, version, events)
            self._judged(name, events, "gate_passed", version, gate, report)
            champion = self.store.alias(KIND, name, CHAMPION) or ""
            if champion != version:
                event = self._append(
                    name, events, "promoted", version, champion=version, previous=champion, reason=gate.reason
                )
                self._move(name, event)

    def refuse(self, name: str, version: str, gate: GateResult, report: str = "") -> None:
        """Record that the gate refused a version. It stays reachable by name; a champion gives way to ``previous``.

        Raises:
            PolicyRefusedError: the gate passed, or its report is about another version.
        """
        if gate.passed:
            raise PolicyRefusedError(f"{name}@{version} passed its gate: it cannot be recorded as refused")
        self._check_report(name, version, report)
        with history.writing(self.store, name):
            events = self._settle(name)
            self._registered(name, version, events)
            self._judged(name, events, "gate_refused", version, gate, report)
            if self.store.alias(KIND, name, CHAMPION) == version:
                self._roll_back(name, events, gate.reason)

    def roll_back(self, name: str, reason: str) -> Event:
        """Make the champion before the current one champion again. Twice goes two champions back.

        Raises:
            BadInputError: there is no earlier champion.
        """
        with history.writing(self.store, name):
            events = self._settle(name)
            if not self.store.alias(KIND, name, CHAMPION) or not self.store.alias(KIND, name, PREVIOUS):
                raise BadInputError(f"{name} has no earlier champion to go back to")
            return self._roll_back(name, events, reason)

    def taint(self, name: str, version: str, reason: str) -> None:
        """Record that a version saw data that was forgotten since. Aliases stay: what to do is for people to decide."""
        with history.writing(self.store, name):
            events = self._settle(name)
            if not any(e.event == "tainted" and (e.version, e.reason) == (version, reason) for e in events):
                self._append(name, events, "tainted", version, reason=reason)

    # -- reading ------------------------------------------------------------------------------------------------------
    def served(self, name: str, pinned: str = "") -> Served | None:
        """What a service answers with: the champion, else the candidate; None before the first registration.

        Reads two or three small files. A version whose manifest is gone is passed over.

        Args:
            pinned: an alias, or a version, that is served instead of these two.
        """
        champion = self.store.alias(KIND, name, CHAMPION)
        aliases = (pinned,) if pinned else (CHAMPION, CANDIDATE)
        for alias in aliases:
            version = self.store.alias(KIND, name, alias) if alias in ALIASES else alias
            if version is not None:
                try:
                    return Served(version, version == champion, self.store.manifest(KIND, name, version))
                except BadInputError:
                    continue
        return None

    def names(self) -> list[str]:
        """Models with a registered version."""
        names = [name for name in self.store.names(KIND) if NAME.fullmatch(name)]
        return [name for name in names if self.store.alias(KIND, name, CANDIDATE) is not None]

    def versions(self, name: str) -> list[Registered]:
        """Registered versions, oldest first; those whose files are gone are left out."""
        events = self.history(name)
        aliases = {alias: self.store.alias(KIND, name, alias) for alias in ALIASES}
        found = []
        for event in events:
            if event.event != "registered":
                continue
            try:
                manifest = self.store.manifest(KIND, name, event.version)
            except BadInputError:
                continue
            names = tuple(alias for alias, version in aliases.items() if version == event.version)
            found.append(
                Registered(
                    manifest,
                    self._metadata(manifest),
                    names,
                    event.at,
                    last_gate(events, event.version),
                    tuple(e.reason for e in events if e.event == "tainted" and e.version == event.version),
                )
            )
        return found

    def version(self, name: str, version: str = "") -> Registered:
        """One registered version, by its id, the beginning of it, or an alias; by default what is served.

        Raises:
            BadInputError: there is none, or several begin like this.
        """
        known = self.versions(name)
        if not known:
            raise BadInputError(f"there is no model {name!r}: {_there_are(self.names())}")
        if not version:
            served = self.served(name)
            version = served.version if served else known[-1].version
        exact = [v for v in known if version == v.version or version in v.aliases]
        begins = exact or [v for v in known if v.version.startswith(version)]
        if len(begins) == 1:
            return begins[0]
        what = "several versions begin with" if begins else "there is no version"
        raise BadInputError(f"model {name}: {what} {version!r}; {_there_are([v.version for v in known])}")

    def history(self, name: str) -> list[Event]:
        """Every event, oldest first. Append-only."""
        return history.read(self.store, name)

    def champion_at(self, name: str, time: str) -> str:
        """The version that was champion at an ISO time (UTC unless it says otherwise); empty if none was."""
        return history.champion_at(self.history(name), history.parse_time(time))

    def card(self, name: str, version: str = "") -> dict[str, Any]:
        """The model card as published (card.json) plus ``state``: what is known now (aliases, gate, audit,
        moves)."""
        found = self.version(name, version)
        path = posixpath.join(self.store.artefact(found.manifest), "card.json")
        card: dict[str, Any] = self.store.read_json(path) if self.store.exists(path) else {}
        moves = [e for e in self.history(name) if e.version == found.version and e.event in history.MOVES]
        card["state"] = {
            "name": name,
            "version": found.version,
            "registered_at": found.registered_at,
            "aliases": list(found.aliases),
            "verdict": found.verdict,
            "gate": {**found.gate.gate, "at": found.gate.at} if found.gate else None,
            "tainted": list(found.tainted),
            "memorization": audits.numbers_of(self.store, found.manifest),
            "moves": [{"event": e.event, "at": e.at, "actor": e.actor, "reason": e.reason} for e in moves],
        }
        return card

    # -- inside -------------------------------------------------------------------------------------------------------
    def _metadata(self, manifest: Manifest) -> dict[str, Any]:
        path = posixpath.join(self.store.artefact(manifest), "plinth.json")
        found = self.store.read_json(path) if self.store.exists(path) else {}
        return found if isinstance(found, dict) else {}

    def _append(self, name: str, events: list[Event], event: EventName, version: str, **details: Any) -> Event:
        return history.append(self.store, name, events, event, version, actor=self._actor, **details)

    def _registered(self, name: str, version: str, events: list[Event]) -> None:
        if not any(e.event == "registered" and e.version == version for e in events):
            raise BadInputError(f"{name}@{version} is not registered: publish and register it first")

    def _judged(
        self, name: str, events: list[Event], event: EventName, version: str, gate: GateResult, report: str
    ) -> None:
        """Append the gate's decision unless it is the last word on this version already."""
        decision = {"report": report, **_plain(gate)}
        last = last_gate(events, version)
        if last is None or last.event != event or last.gate != decision:
            events.append(self._append(name, events, event, version, gate=decision, reason=gate.reason))

    def _check_report(self, name: str, version: str, report: str) -> None:
        if not report:
            return
        gate_name, _, gate_version = report.partition("@")
        about = self.store.manifest("gates", gate_name, gate_version).inputs.get("model", "")
        if about and about != f"{name}@{version}":
            raise PolicyRefusedError(f"the gate report {report} is about {about}, not about {name}@{version}")

    def _roll_back(self, name: str, events: list[Event], reason: str) -> Event:
        left = self.store.alias(KIND, name, CHAMPION) or ""
        to = self.store.alias(KIND, name, PREVIOUS) or ""
        stack = history.champions(events)
        before = stack[-3] if len(stack) > 2 and stack[-2:] == [to, left] else ""
        event = self._append(name, events, "rolled_back", left, champion=to, previous=before, reason=reason)
        self._move(name, event)
        return event

    def _settle(self, name: str) -> list[Event]:
        """Complete the last move of the champion if a kill left it half done; returns the history."""
        events = self.history(name)
        moves = [event for event in events if event.event in history.MOVES]
        if moves:
            last = moves[-1]
            now = {alias: self.store.alias_history(KIND, name, alias) for alias in (PREVIOUS, CHAMPION)}
            done = all(
                (rows[-1]["version"] if rows else "") == version
                for rows, version in zip(now.values(), (last.previous, last.champion), strict=True)
            )
            later = any(rows and rows[-1]["at"] > last.at and rows[-1]["why"] != _why(last) for rows in now.values())
            if not done and not later:  # aliases that somebody moved by hand after the event are left alone
                self._move(name, last)
        return events

    def _move(self, name: str, event: Event) -> None:
        """Make the aliases what ``event`` says: ``previous`` first, so that a kill never loses the old champion."""
        for alias, version in ((PREVIOUS, event.previous), (CHAMPION, event.champion)):
            if version:
                self.store.move_alias(KIND, name, alias, version, _why(event))
            else:
                self.store.remove_alias(KIND, name, alias)


def last_gate(events: list[Event], version: str) -> Event | None:
    """The gate's last word on a version."""
    found = [e for e in events if e.version == version and e.event in ("gate_passed", "gate_refused")]
    return found[-1] if found else None


def _why(event: Event) -> str:
    """What an alias' own history says about a move."""
    return f"event {event.seq}: {event.event}"


def _plain(gate: GateResult) -> dict[str, Any]:
    return {
        "passed": gate.passed,
        "reason": gate.reason,
        "checks": [dataclasses.asdict(check) for check in gate.checks],
    }


def _differences(published: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    return sorted(key for key in {*published, *given} if published.get(key) != given.get(key))


def _there_are(names: list[str]) -> str:
    return f"there are {', '.join(names)}" if names else "there are none yet"
