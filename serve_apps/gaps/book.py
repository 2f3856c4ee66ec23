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
from data_jobs.retrieval.wording import is_stop_word
from serve_apps.gateway.exchange import Ask, Done
from serve_apps.guards.personal import PersonalDataGuard
from train_jobs.answering.forms.refusal import nearest

MAX_BYTES = 1_000_000  # a longer book loses its older half
MAX_QUESTION_CHARS, MAX_WORD_CHARS = 400, 40
NAME = "<NAME>"
PARTLY = "partly_supported"
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
# What may stand before a name with a capital, and is none of it.
_ORDERS = frozenset(("list", "name", "show", "give", "summarize", "compare", "explain", "describe", "define", "find"))
_TITLES = frozenset(("mr", "mrs", "ms", "miss", "dr", "prof", "herr", "frau", "señor", "señora", "monsieur", "madame"))
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
        index_version, collection: of the index that had no answer.
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
    collection: str = ""

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> Gap:
        """The gap out of plain JSON. TypeError or KeyError where it is none."""
        words = row["not_found"]
        texts = [*words, *(value for key, value in row.items() if key != "not_found")]
        if not isinstance(words, list) or not all(isinstance(text, str) for text in texts):
            raise TypeError("a gap is made of strings")
        return cls(**{**row, "not_found": tuple(words)})


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
            size = handle.seek(0, os.SEEK_END)
            if size and os.pread(handle.fileno(), 1, size - 1) != b"\n":
                line = "\n" + line  # what another writer left half is not joined to it
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
        for line in self.path.read_text(encoding="utf-8", errors="replace").split("\n"):
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
        with os.fdopen(descriptor, "r+", encoding="utf-8", errors="replace") as handle:
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
        unknown = () if plinth["grounded"] else plinth["not_found"]
        passages = nearest(retrieval)
        owner = passages[0] if passages else None
        for one in asked:
            kept = self.redacted(one, retrieval)[:MAX_QUESTION_CHARS]
            said = {word.lower() for word in re.findall(r"\w+", kept)}
            gap = Gap(
                utc_now()[:10],
                kept,
                plinth["reason"],
                # What was taken out of the question does not come back as a word that was not found.
                tuple(w[:MAX_WORD_CHARS] for w in unknown if all(p.lower() in said for p in re.findall(r"\w+", w))),
                owner.document if owner else "",
                owner.source if owner else "",
                owner.owner if owner else "",
                retrieval.index_version,
                self._asker(ask.user),
                retrieval.collection,
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
        for start, end in reversed(_names(text)):
            if text[start:end] not in written:
                text = text[:start] + NAME + text[end:]
        return text

    def _asker(self, user: str) -> str:
        return hashlib.blake2b(user.encode(), key=self._key, digest_size=6).hexdigest()


def _names(text: str) -> list[tuple[int, int]]:
    """Spans of two words and more with capitals, one after the other, and of one word after "Mr" or "Frau"."""
    found: list[tuple[int, int]] = []
    run: list[re.Match[str]] = []
    titled = False
    for match in [*_WORD.finditer(text), None]:
        goes_on = (
            bool(run)
            and match is not None
            and re.fullmatch(r" |\. ?" if titled else " ", text[run[-1].end() : match.start()])
        )
        if run and not (goes_on and _capital(match)):
            if len(run) > 1 and not all(word.group().isupper() for word in run):
                found.append((run[0].start(), run[-1].end()))
            run, titled = [], False
        if match is not None and (run or _capital(match)):
            titled = match.group().lower() in _TITLES
            run = [*run, match]
    return found


def _capital(match: re.Match[str] | None) -> bool:
    """Whether a word is written like one of a name."""
    if match is None or not match.group()[0].isupper():
        return False
    word = match.group().lower()
    return not is_stop_word(word) and word not in _ORDERS
