"""Searches one after the other in one thread; what came meanwhile is embedded and compared with the index together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from serve_apps.scaling.load import Load, Work

if TYPE_CHECKING:
    from data_jobs.retrieval.results import Retrieval

TOGETHER = 16  # questions: more save nothing, and who comes next should not wait for them all


class Searched(Protocol):
    """What is searched: a ``Searcher``."""

    def ahead(self, questions: Sequence[str]) -> None:
        """See ``Searcher.ahead``."""
        ...

    def search(self, question: str, k: int | None) -> Retrieval:
        """See ``Searcher.search``."""
        ...


@dataclass(frozen=True)
class _Waiting:
    searcher: Searched
    question: str
    k: int | None
    found: asyncio.Future[Retrieval]
    work: Work


class Searches:
    """A queue in front of searchers that are not thread-safe. For one event loop at a time.

    Nobody waits for company: a question that meets an idle thread is searched at once; those that come while it works
    make up the next round. A round is one piece of the thread's work, so that other work of the thread (embeddings)
    gets its turn in between.

    Args:
        submit: has the one thread in which searches run do something.
        prepare: embeds the questions of a round together (``QuestionVectors.prepare``); in the thread.
        load: counts the questions, and how long they wait for their turn.
    """

    def __init__(
        self, submit: Callable[..., Future[Any]], prepare: Callable[[Sequence[str]], None], load: Load
    ) -> None:
        self._submit, self._prepare, self._load = submit, prepare, load
        self._waiting: deque[_Waiting] = deque()
        self._at_work = False
        self._loop: asyncio.AbstractEventLoop | None = None

    async def search(self, searcher: Searched, question: str, k: int | None) -> Retrieval:
        """``searcher.search(question, k)`` in the thread. Raises what it raises; who gives up waiting is left out."""
        found: asyncio.Future[Retrieval] = asyncio.get_running_loop().create_future()
        with self._load.doing(1) as work:
            self._waiting.append(_Waiting(searcher, question, k, found, work))
            self._next()
            return await found

    def _next(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:  # a round that was under way when its loop ended has told nobody that it is over
            self._loop, self._at_work = loop, False
        while self._waiting and not self._at_work:
            count = min(TOGETHER, len(self._waiting))
            batch = [one for one in (self._waiting.popleft() for _ in range(count)) if not one.found.done()]
            if batch:
                self._at_work = True
                under_way = self._submit(self._round, loop, batch)
                asyncio.wrap_future(under_way).add_done_callback(self._done)

    def _done(self, done: asyncio.Future[None]) -> None:
        self._at_work = False
        if not done.cancelled():
            done.result()  # a round raises nothing: what does is a bug, and is told
        self._next()

    def _round(self, loop: asyncio.AbstractEventLoop, batch: list[_Waiting]) -> None:
        with suppress(Exception):  # one of them is to blame: each finds out by itself
            self._prepare([one.question for one in batch])
            for searcher in {id(one.searcher): one.searcher for one in batch}.values():
                searcher.ahead([one.question for one in batch if one.searcher is searcher])
        for one in batch:
            if one.found.done():
                continue
            one.work.begun()
            try:
                result: Any = one.searcher.search(one.question, one.k)
            except BaseException as error:  # noqa: BLE001 (whoever asked is told)
                loop.call_soon_threadsafe(_settle, one.found, None, error)
            else:
                loop.call_soon_threadsafe(_settle, one.found, result, None)


def _settle(found: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if found.done():
        return  # whoever asked went away
    if error is not None:
        found.set_exception(error)
    else:
        found.set_result(result)
