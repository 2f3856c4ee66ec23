"""Collaborators of the gateway over Serve handles (R).

Ray's failures become the request path's: a replica that died or is overloaded is an UnavailableError, an error raised
by the deployment itself arrives as what it was. Calls without side effects are retried on another replica when the one
they ran on died: Serve does not do that by itself.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RayServeException
from ray.serve.handle import DeploymentHandle

from cluster.core.access import NO_RIGHTS, Rights
from cluster.core.records import Answer
from cluster.core.telemetry import log_event
from cluster.core.trace import carried
from cluster.ray_errors import cause_of
from serve_apps.errors import UnavailableError
from serve_apps.gateway.protocols import Sampling, TierState
from serve_apps.guards.protocol import InputCheck, OutputCheck
from serve_apps.routing.latency import TierLoad

if TYPE_CHECKING:
    from data_jobs.retrieval.examples import Example
    from data_jobs.retrieval.results import Retrieval

RETRIES = 2
REFRESH_S, STALE_S = 0.5, 2.0
DEAD_AFTER_S = 3.0
Result = TypeVar("Result")


async def call(what: str, send: Callable[[], Awaitable[Result]]) -> Result:
    """Await one idempotent unary call, up to 1 + RETRIES times while replicas die under it.

    Raises:
        UnavailableError: every try met a dead replica, or the deployment is overloaded or not there.
        Exception: whatever the deployment's own code raised.
    """
    for _ in range(RETRIES + 1):
        try:
            return await send()
        except RayActorError:
            continue
        except RayTaskError as error:
            raise cause_of(error) from None
        except (BackPressureError, DeploymentUnavailableError, RayServeException, RayError) as error:
            raise UnavailableError(f"the {what} is not available ({type(error).__name__})") from error
    raise UnavailableError(f"the {what} died while answering")


class GuardHandle:
    """``GuardClient`` over a Serve handle."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle

    async def check_input(self, texts: list[str]) -> list[InputCheck]:
        """See ``GuardClient``."""
        return await call("guard", lambda: self._handle.check_input.remote(texts, **carried()))

    async def check_output(self, texts: list[str]) -> list[OutputCheck]:
        """See ``GuardClient``."""
        return await call("guard", lambda: self._handle.check_output.remote(texts, **carried()))


class RetrieverHandle:
    """``RetrieverClient`` over a Serve handle."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle

    async def search(self, question: str, k: int | None, collection: str = "", rights: Rights = NO_RIGHTS) -> Retrieval:
        """See ``RetrieverClient``."""
        return await call("retriever", lambda: self._handle.search.remote(question, k, collection, rights, **carried()))

    async def embed(self, texts: list[str]) -> list[list[float]]:
        """See ``RetrieverClient``."""
        return await call("retriever", lambda: self._handle.embed.remote(texts, **carried()))

    async def embed_questions(self, texts: list[str]) -> tuple[str, list[list[float]]]:
        """See ``RetrieverClient``."""
        return await call("retriever", lambda: self._handle.embed_questions.remote(texts))

    async def info(self) -> dict[str, Any]:
        return await call("retriever", lambda: self._handle.info.remote())

    async def collections(self) -> list[dict[str, Any]]:
        return await call("retriever", lambda: self._handle.collections.remote())

    async def examples(self, count: int, collection: str = "", rights: Rights = NO_RIGHTS) -> tuple[str, list[Example]]:
        return await call("retriever", lambda: self._handle.examples.remote(count, collection, rights))

    async def topics(self, count: int, collection: str = "", rights: Rights = NO_RIGHTS) -> list[str]:
        return await call("retriever", lambda: self._handle.topics.remote(count, collection, rights))


async def _spoken(response: Any) -> AsyncGenerator[str | Answer, None]:
    """What a tier says. Streams are not retried: what was sent cannot be taken back."""
    try:
        async for item in response:
            yield item
    except RayTaskError as error:
        raise cause_of(error) from None
    except (RayError, RayServeException) as error:
        raise UnavailableError(f"the tier is not available ({type(error).__name__})") from error
    finally:
        response.cancel()


class TierHandle:
    """``TierClient`` over a Serve handle.

    Args:
        state: what is known of the tier before anybody asked, and whenever its replicas do not answer.
        follows: its replicas are asked now and then what they serve; else ``state`` holds for as long as it runs.
    """

    def __init__(self, state: TierState, handle: DeploymentHandle, follows: bool) -> None:
        self._unknown = self._state = state
        self._handle, self._streams, self._follows = handle, handle.options(stream=True), follows
        self._asked_at = -math.inf
        self._asking: asyncio.Task[None] | None = None
        self._load = TierLoad()

    @property
    def state(self) -> TierState:
        """What its replicas last said, with the load and the latency this gateway sees itself."""
        latency_ms = self._load.latency.ms or self._state.latency_ms
        return replace(self._state, ongoing=self._load.ongoing, latency_ms=latency_ms)

    async def refresh(self) -> None:
        """At most one question in ``REFRESH_S``; waited for only after a silence, when what is known is old."""
        if not self._follows:
            return
        age = time.monotonic() - self._asked_at
        if self._asking is None or (self._asking.done() and age >= REFRESH_S):
            self._asked_at = time.monotonic()
            self._asking = asyncio.get_running_loop().create_task(self._ask())
        if age > STALE_S:
            await asyncio.wait({self._asking}, timeout=STALE_S)

    def wake(self) -> None:
        """Nothing to do: it has replicas at all times."""

    async def _ask(self) -> None:
        response: Any = self._handle.state.remote()
        try:
            async with asyncio.timeout(DEAD_AFTER_S):
                self._state = await response
        except (RayError, RayServeException, TimeoutError) as error:
            response.cancel()
            if self._state.ready:
                log_event("gateway", "tier_lost", tier=self._state.name, error=str(error)[:300])
            self._state = self._unknown

    async def stream(
        self, question: str, retrieval: Retrieval, sampling: Sampling
    ) -> AsyncGenerator[str | Answer, None]:
        """See ``TierClient``."""
        response = self._streams.stream.remote(question, retrieval, sampling, **carried())
        async with aclosing(self._load.through(_spoken(response))) as items:
            async for item in items:
                yield item

    async def complete(self, prompt: str, sampling: Sampling) -> AsyncGenerator[str | Answer, None]:
        """See ``TierClient``. Not timed: a continuation is no answer."""
        response = self._streams.complete.remote(prompt, sampling, **carried())
        async with aclosing(self._load.through(_spoken(response), measured=False)) as items:
            async for item in items:
                yield item
