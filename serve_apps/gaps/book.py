"""The book of unanswered questions: one JSON line each below PLINTH_HOME, bounded, without personal data.

What is kept of a question passed the guards, was redacted once more whatever guards are configured, and names of
persons are taken out. Who asked is a keyed hash whose key lives as long as the gateway: it tells askers apart while it
runs, and afterwards nobody can say who they were. Of the time only the day is kept.
"""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import json
import os
import re
import secrets
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.core.home import Home
from cluster.core.storage import utc_now
from cluster.core.telemetry import log_event
from data_jobs.retrieval.results import Retrieval
from serve_apps.gateway.exchange import Ask, Done
from serve_apps.guards.personal import PersonalDataGuard
from train_jobs.answering.forms.refusal import nearest
from train_jobs.answering.terms import question_terms

MAX_BYTES = 1_000_000  # a longer book loses its older half
MAX_QUESTION_CHARS = 400
NAME = "<NAME>"
PARTLY = "partly_supported"
NO_GAPS = frozenset(("courtesy", "content_filter"))  # reasons of answers that say nothing about the documents


@dataclass(frozen=True)
class Gap:
    """One question that was not answered.

    Attributes:
        day: when it was asked (ISO, UTC).
        question: redacted.
        reason: why it was refused (``Answer.reason``).
        not_found: its words that the documents do not know.
        document, source, owner: the nearest document, where it comes from and who answers for it; empty where none is
            near.
        index_version: of the index that had no answer.
        asker: tells askers apart, and no more.
    """

    day: str
    question: str
    reason: str
    not_found: tuple[str, ...] = ()
    document: str = ""
    source: str = ""
    owner: str = ""
    index_version: str = ""
    asker: str = ""

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> Gap:
        """The gap out of plain JSON. TypeError or KeyError where it is none."""
        return cls(**{**row, "not_found": tuple(row["not_found"])})


class GapBook:
    """Reads and writes one book."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of(cls, home: Home) -> GapBook:
        """The book of this machine."""
        return cls(home.folder("gaps") / "gaps.jsonl")

    def add(self, gap: Gap) -> None:
        """Append a gap; OSError where the book cannot be written."""
        line = json.dumps(dataclasses.asdict(gap), ensure_ascii=True) + "\n"
        with self._locked() as handle:
            handle.seek(0, os.SEEK_END)
            if handle.tell() + len(line) > MAX_BYTES:
                handle.seek(0)
                lines = handle.read().splitlines(keepends=True)
                self._replace(handle, lines[len(lines) // 2 :])
            handle.write(line)

    def read(self) -> list[Gap]:
        """Every gap, oldest first; lines that are none (of another program, half written) are passed over."""
        if not self.path.exists():
            return []
        found = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            if (gap := _gap(line)) is not None:
                found.append(gap)
        return found

    def remove(self, questions: Collection[str] | None = None) -> int:
        """Take out every gap with one of these questions, by default all; how many they were."""
        if not self.path.exists():
            return 0
        with self._locked() as handle:
            handle.seek(0)
            lines = handle.read().splitlines(keepends=True)
            kept = [line for line in lines if questions is not None and not _is_one_of(line, questions)]
            self._replace(handle, kept)
        return len(lines) - len(kept)

    def _replace(self, handle: Any, lines: list[str]) -> None:
        handle.seek(0)
        handle.truncate()
        handle.write("".join(lines))

    @contextmanager
    def _locked(self) -> Iterator[Any]:
        """The file, open for one process at a time, readable by its owner only."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "r+", encoding="utf-8") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield handle


def _gap(line: str) -> Gap | None:
    try:
        return Gap.from_dict(json.loads(line))
    except (ValueError, TypeError, KeyError):
        return None


def _is_one_of(line: str, questions: Collection[str]) -> bool:
    gap = _gap(line)
    return gap is not None and gap.question in questions


class GapNotes:
    """Notes what the gateway could not answer."""

    def __init__(self, book: GapBook, write: Callable[..., None] = log_event) -> None:
        self._book, self._write = book, write
        self._guard = PersonalDataGuard()
        self._key = secrets.token_bytes(16)
        self._failed = False

    def note(self, ask: Ask, question: str, retrieval: Retrieval, done: Done) -> None:
        """Keep the question where it was refused; of several, those that were. Never raises for a full disk."""
        plinth = done.plinth
        if not ask.keep or plinth["reason"] in NO_GAPS or (plinth["grounded"] and plinth["reason"] != PARTLY):
            return
        asked = plinth["not_found"] if plinth["grounded"] else [question]
        unknown = () if plinth["grounded"] else tuple(plinth["not_found"])
        passages = nearest(retrieval)
        owner = passages[0] if passages else None
        for one in asked:
            gap = Gap(
                utc_now()[:10],
                self.redacted(one, retrieval)[:MAX_QUESTION_CHARS],
                plinth["reason"],
                unknown,
                owner.document if owner else "",
                owner.source if owner else "",
                owner.owner if owner else "",
                retrieval.index_version,
                self._asker(ask.user),
            )
            try:
                self._book.add(gap)
            except OSError as error:
                if not self._failed:
                    self._write("gateway", "gap_not_kept", error=str(error))
                self._failed = True

    def redacted(self, question: str, retrieval: Retrieval) -> str:
        """The question without personal data, and without names of two words and more that no passage has: those are
        of persons more often than not."""
        text = self._guard.check_input([question])[0].text
        written = "\n".join(f"{p.title}\n{p.text}" for p in retrieval.passages)
        for term in question_terms(text):
            if term.proper and not term.acronym and " " in term.text and term.text not in written:
                text = re.sub(rf"{re.escape(term.text)}(?:['’]s)?", NAME, text)
        return text

    def _asker(self, user: str) -> str:
        return hashlib.blake2b(user.encode(), key=self._key, digest_size=6).hexdigest()
