"""Reading what a search found: the reader's word on each window becomes part of the result.

A reader that is missing, or breaks on a question, takes nothing away from the search: the result then says so
(``Retrieval.reader``), and answers are made from the search's evidence alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from cluster.core.errors import PlinthError
from cluster.core.telemetry import log_event
from data_jobs.retrieval.reader import Reader, Reading, Window, load_reader, windows
from data_jobs.retrieval.reading import fingerprint_of
from data_jobs.retrieval.results import ReaderState, Retrieval, WindowReading
from data_jobs.retrieval.support import worth_reading

AUTO, OFF = "auto", "off"
SHIPPED = "shipped"
# What a runtime raises over weights, shapes and memory; anything else is a bug of ours and should be seen.
FAULTS = (RuntimeError, ValueError, OSError, MemoryError, PlinthError)


class PassageReader:
    """Reads the passages of searches, or says why it does not. Not thread-safe, as the reader is not.

    Args:
        reader: what reads, or what loads that when it is first wanted; None where there is none.
        state: what results say then: ``off`` or ``missing``.
    """

    def __init__(self, reader: Reader | Callable[[], Reader | None] | None, state: ReaderState = "missing") -> None:
        self._load = reader if callable(reader) else None
        self._reader = None if callable(reader) else reader
        self._state = state

    @property
    def reads(self) -> bool:
        """Whether there is a reader, as far as is known before it is loaded."""
        return self._reader is not None or self._load is not None

    def warm(self) -> None:
        """Load the reader now; one that cannot be loaded is missing from here on."""
        load, self._load = self._load, None
        if load is None:
            return
        try:
            self._reader = load()
        except FAULTS as error:
            log_event("retriever", "reader_missing", error=f"{type(error).__name__}: {error}"[:300])

    @property
    def fingerprint(self) -> str:
        """Probabilities of equal fingerprints mean the same; empty without a reader."""
        self.warm()
        return str(getattr(self._reader, "fingerprint", type(self._reader).__name__)) if self._reader else ""

    def read(self, found: Retrieval) -> Retrieval:
        """The result with the readings of its windows, the time taken among its timings; ``spared`` where they would
        change nothing."""
        if not self.reads:
            return replace(found, reader=self._state)
        began = time.perf_counter()
        if not worth_reading(found):
            return replace(found, reader="spared")
        self.warm()
        if self._reader is None:
            return replace(found, reader=self._state)
        shown = windows(found)
        try:
            said = self._reader.read(found.question, shown) if shown else []
            readings = tuple(_reading(window, one) for window, one in zip(shown, said, strict=True))
        except FAULTS as error:
            log_event("retriever", "reader_failed", error=f"{type(error).__name__}: {error}"[:300])
            return replace(found, reader="failed")
        took = round((time.perf_counter() - began) * 1000, 3)
        return replace(found, reader="read", readings=readings, timings_ms={**found.timings_ms, "read": took})


def reader_fingerprint(name: str) -> str:
    """``PassageReader.fingerprint`` of the reader of ``retrieval.reader``, not loaded; empty where there is none.

    Raises:
        BadInputError: the folder holds no reader, or one of another format.
    """
    return "" if name == OFF else fingerprint_of(SHIPPED if name == AUTO else name)


def load_passage_reader(name: str, threads: int, required: bool = False) -> PassageReader:
    """The reader of ``retrieval.reader``: ``auto`` is the one that ships, ``off`` none, else a folder.

    Args:
        threads: for its arithmetic.
        required: whether it is loaded at once, and one that cannot be is an error; else it is loaded when it is first
            wanted, and results say where it is missing.

    Raises:
        PlinthError: only where it is required.
    """
    if name == OFF:
        return PassageReader(None, "off")
    load = partial(load_reader, SHIPPED if name == AUTO else name, threads)
    return PassageReader(load() if required else load)


def _reading(window: Window, said: Reading) -> WindowReading:
    span = window.start + said.start, window.start + said.end
    end = window.start + len(window.text)
    return WindowReading(window.passage, window.start, end, said.answerable, *span, said.relevance)
