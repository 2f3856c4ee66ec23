"""The thread of an engine: a queue, a step loop, and what every engine refuses.

The loop blocks on a condition while there is nothing to do. An engine adds four methods, all called on this thread:
``_open``, ``_admit``, ``_step`` and ``_drop``.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from typing import Literal

from cluster.core.errors import BadInputError, PlinthError, UnsupportedError
from serve_apps.engines.protocol import Capabilities, EngineSampling, EngineStats
from serve_apps.engines.stream import FLUSH_S, DeltaStream, Rate, Request, flush
from serve_apps.errors import TOO_LONG, UnavailableError

MAX_WAITING = 1024  # requests queued in one engine; more are refused
MAX_STOP_IDS = 64
log = logging.getLogger(__name__)


class EngineThread(ABC):
    """Base of the engines; implements ``protocol.Engine``."""

    flush_s = FLUSH_S  # least time between two deltas of one request, its first and last apart

    def __init__(self, name: str) -> None:
        self.name = name
        self._wake = threading.Condition()
        self._inbox: deque[Request] = deque()  # guarded by _wake
        self._state: Literal["new", "ready", "stopping", "stopped", "failed"] = "new"  # guarded by _wake
        self._deadline = 0.0  # of a drain
        self._news = False  # a cancellation to look at; guarded by _wake
        self._started = threading.Event()
        self._start_error: BaseException | None = None
        self._capabilities: Capabilities | None = None
        self._thread = threading.Thread(target=self._run, name=f"engine-{name}", daemon=True)
        self._numbers = itertools.count()
        self._waiting: deque[Request] = deque()
        self._running: list[Request] = []
        self._rate = Rate()
        self._totals = dict.fromkeys(("prompt_tokens", "generated_tokens", "finished", "cancelled", "failed"), 0)

    # -- what an engine is -------------------------------------------------------------------------------------------
    @abstractmethod
    def _open(self) -> Capabilities:
        """Load the model."""

    @abstractmethod
    def _admit(self, request: Request) -> bool:
        """Take a request to work on, or say that there is no room for it yet."""

    def _ready(self) -> bool:
        """Whether ``_step`` has something to do now (asked under ``_wake``)."""
        return bool(self._running)

    @abstractmethod
    def _step(self, running: Sequence[Request]) -> None:
        """Generate the next tokens: ``request.emit`` them, or set ``request.error``."""

    @abstractmethod
    def _drop(self, request: Request) -> None:
        """Free what an admitted request holds; it is over, or was cancelled."""

    @abstractmethod
    def _close(self) -> None:
        """Free the model."""

    def _takes(self, adapter: str) -> bool:
        """Whether there is an adapter of this name."""
        return False

    def _cache_usage(self) -> float:
        return 0.0

    # -- any thread --------------------------------------------------------------------------------------------------
    def start(self) -> Capabilities:
        with self._wake:
            if self._state != "new":
                raise UnavailableError(f"engine {self.name} was started before: make a new one")
            self._state = "ready"
        self._thread.start()
        self._started.wait()
        if self._capabilities is None:
            raise self._start_error or UnavailableError(f"engine {self.name} failed to start")
        return self._capabilities

    def submit(self, ids: Sequence[int], sampling: EngineSampling, adapter: str | None = None) -> DeltaStream:
        loop = asyncio.get_running_loop()
        capabilities = self._capabilities
        if capabilities is None:
            raise UnavailableError(f"engine {self.name} is not started")
        if adapter is not None and not self._takes(adapter):
            why = "has no such adapter" if capabilities.adapters else "takes no adapters"
            raise UnsupportedError(f"engine {capabilities.engine} {why}: {adapter!r}")
        tokens = _checked(ids, sampling, capabilities)
        stream = DeltaStream(lambda: self._cancel(request))
        request = Request(next(self._numbers), tokens, sampling, loop, _weakly(stream), adapter)
        with self._wake:
            if self._state != "ready":
                raise _closed(self.name, self._state)
            if len(self._inbox) + len(self._waiting) >= MAX_WAITING:
                raise UnavailableError(f"engine {self.name} has {MAX_WAITING} requests waiting: try again later")
            self._inbox.append(request)
            self._wake.notify()
        return stream

    def stats(self) -> EngineStats:
        """See ``Engine``. The cache is looked at only while the engine is ready."""
        state = self._state
        return EngineStats(
            state="ready" if state in ("new", "ready") else "failed" if state == "failed" else "stopped",
            running=len(self._running),
            waiting=len(self._inbox) + len(self._waiting),
            tokens_per_s=self._rate.per_second(),
            cache_usage=self._cache_usage() if state == "ready" else 0.0,
            **self._totals,
        )

    def stop(self, drain_s: float = 0.0) -> None:
        with self._wake:
            if self._state == "new":
                self._state = "stopped"
            if self._state == "ready":
                self._state = "stopping"
                self._deadline = time.monotonic() + drain_s
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join()

    def _cancel(self, request: Request) -> None:
        request.cancelled = True
        with self._wake:
            self._news = True
            self._wake.notify()

    # -- the engine's thread -------------------------------------------------------------------------------------------
    def _run(self) -> None:
        try:
            self._capabilities = self._open()
        except PlinthError as error:
            self._start_error = error
        finally:
            if self._capabilities is None:
                self._state = "failed"
                self._close()
            self._started.set()
        if self._capabilities is None:
            return
        end: Literal["stopped", "failed"] = "failed"
        try:
            self._serve()
            end = "stopped"
        except (RuntimeError, UnavailableError) as error:  # what torch raises; the process of the model has ended
            log.error("engine %s failed: %s", self.name, error)
        finally:
            with self._wake:
                self._state = end
            self._fail_all(_closed(self.name, end))
            self._close()

    def _serve(self) -> None:
        while True:
            with self._wake:
                while not (self._inbox or self._news or self._ready() or self._time_to_go()):
                    draining = self._state == "stopping"
                    self._wake.wait(max(0.0, self._deadline - time.monotonic()) if draining else None)
                if self._time_to_go():
                    return
                self._news = False
                self._waiting.extend(self._inbox)
                self._inbox.clear()
                ready = self._ready()
            if ready:
                self._turn()
            self._drop_cancelled()
            while self._waiting and self._admit(self._waiting[0]):
                request = self._waiting.popleft()
                self._running.append(request)
                self._totals["prompt_tokens"] += len(request.ids)

    def _time_to_go(self) -> bool:
        if self._state != "stopping":
            return False
        busy = self._inbox or self._waiting or self._running
        return not busy or time.monotonic() >= self._deadline

    def _turn(self) -> None:
        before = sum(request.generated for request in self._running)
        self._step(self._running)
        new = sum(request.generated for request in self._running) - before
        self._totals["generated_tokens"] += new
        self._rate.add(new)
        over = [request for request in self._running if request.over]
        for request in over:
            self._drop(request)
            self._totals["failed" if request.error else "finished"] += 1
        worked_on = self._running
        if over:  # before the flush: who has read the last token finds its place free
            self._running = [request for request in self._running if not request.over]
        flush(worked_on, time.monotonic(), self.flush_s)

    def _drop_cancelled(self) -> None:
        if not any(request.cancelled for request in (*self._waiting, *self._running)):
            return
        for request in self._running:
            if request.cancelled:
                self._drop(request)
        before = len(self._running) + len(self._waiting)
        self._running = [request for request in self._running if not request.cancelled]
        self._waiting = deque(request for request in self._waiting if not request.cancelled)
        self._totals["cancelled"] += before - len(self._running) - len(self._waiting)

    def _fail_all(self, error: UnavailableError) -> None:
        with self._wake:
            left = [*self._running, *self._waiting, *self._inbox]
            self._inbox.clear()
        for request in left:
            request.error = request.error or error
        flush(left, time.monotonic(), 0.0)
        self._running, self._waiting = [], deque()
        self._totals["cancelled" if error.extras["state"] == "stopped" else "failed"] += len(left)


def _weakly(stream: DeltaStream) -> Callable[..., None]:
    """``stream.deliver`` without keeping the stream alive: one nobody holds any more cancels itself."""
    import weakref

    reference = weakref.ref(stream)

    def deliver(*values: object) -> None:
        target = reference()
        if target is not None:
            target.deliver(*values)  # type: ignore[arg-type]

    return deliver


def _closed(name: str, state: str) -> UnavailableError:
    words = "has failed" if state == "failed" else "was stopped"
    return UnavailableError(f"engine {name} {words}", state=state)


def _checked(ids: Sequence[int], sampling: EngineSampling, capabilities: Capabilities) -> tuple[int, ...]:
    tokens = tuple(ids)
    if not tokens:
        raise BadInputError("the prompt holds no tokens")
    if not 0 <= min(tokens) <= max(tokens) < capabilities.vocab:
        wrong = min(tokens) if min(tokens) < 0 else max(tokens)
        raise BadInputError(f"token id {wrong} is outside the model's vocabulary of {capabilities.vocab}")
    if sampling.max_new_tokens < 1:
        raise BadInputError(f"max_new_tokens is {sampling.max_new_tokens}: ask for one token at least")
    if len(tokens) + sampling.max_new_tokens > capabilities.context_tokens:
        raise BadInputError(
            f"the model's context holds {capabilities.context_tokens} tokens: {len(tokens)} of the prompt and "
            f"{sampling.max_new_tokens} to generate are {len(tokens) + sampling.max_new_tokens}",
            code=TOO_LONG, context_tokens=capabilities.context_tokens,
        )  # fmt: skip
    # Written so that NaN is refused too.
    if not 0.0 <= sampling.temperature <= 100.0:
        raise BadInputError(f"temperature {sampling.temperature} is not between 0 and 100")
    if not 0.0 <= sampling.top_p <= 1.0:
        raise BadInputError(f"top_p {sampling.top_p} is not between 0 and 1")
    if len(sampling.stop_ids) > MAX_STOP_IDS or any(not 0 <= i < capabilities.vocab for i in sampling.stop_ids):
        raise BadInputError(f"stop ids must be at most {MAX_STOP_IDS} ids of the vocabulary")
    return tokens
