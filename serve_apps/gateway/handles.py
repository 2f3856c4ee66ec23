"""Collaborators of the gateway over Serve handles (R).

Ray's failures become the request path's: a replica that died or is overloaded is an UnavailableError, an error raised
by the deployment itself arrives as what it was. Calls without side effects are retried on another replica when the one
they ran on died, and so is an answer of which nothing was said yet: Serve does not do that by itself. It lets whoever
asks a deployment without any replica wait for one, which here is said at once.

Under load the calls of several requests go as one (``coalesced``). What may take long goes alone.
"""

from __future__ import annotations

import asyncio
import math
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
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
from serve_apps.gateway.coalesced import Coalesced
from serve_apps.gateway.protocols import Sampling, TierState
from serve_apps.guards.protocol import IN, OUT, InputCheck, OutputCheck
from serve_apps.routing.latency import TierLoad

if TYPE_CHECKING:
    from data_jobs.retrieval.examples import Example
    from data_jobs.retrieval.results import Retrieval

RETRIES = 2
REFRESH_S, STALE_S = 0.5, 2.0
DEAD_AFTER_S = 2.0  # of silence
ANOTHER_S, LOST_S = 0.5, 0.1  # in which another replica says that it is there, and one that was lost that it is back
LONG_CHARS = 8_000  # of the texts of one call: with more it is no small matter, for which others should not wait
LANES = 2  # calls that one replica is sent before others wait: the next one is there when it is done with the first
# Plain values of ours cross the wire, which pickle takes as they are; cloudpickle looks at each of them in Python.
PICKLED: dict[str, Any] = {"request_serialization": "pickle", "response_serialization": "pickle"}
Traced = dict[str, str]  # what ``carried`` gives
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


Check = tuple[str, list[str], dict[str, Any]]  # the stage, the texts, and keywords: what ``carried`` gives, and others


class GuardHandle:
    """``GuardClient`` over a Serve handle.

    Args:
        replicas: of the deployment, where that is fixed. 0: it follows the calls under way, which then go alone, as one
            for several would pass for one.
    """

    def __init__(self, handle: DeploymentHandle, replicas: int = 0) -> None:
        self._one = {
            stage: handle.options(method_name=name, **PICKLED)
            for stage, name in ((IN, "check_input"), (OUT, "check_output"))
        }
        self._several = handle.options(method_name="check_many", **PICKLED)
        self._checks = Coalesced(self._check, self._check_many, replicas or sys.maxsize)

    async def check_input(self, texts: list[str], prompts: bool = True) -> list[InputCheck]:
        """See ``GuardClient``."""
        return await self._checked(IN, texts, **({} if prompts else {"prompts": False}))

    async def check_output(self, texts: list[str]) -> list[OutputCheck]:
        """See ``GuardClient``."""
        return await self._checked(OUT, texts)

    async def _checked(self, stage: str, texts: list[str], **more: Any) -> list[Any]:
        item = (stage, texts, {**carried(), **more})
        return await (self._check(item) if sum(map(len, texts)) > LONG_CHARS else self._checks.call(item))

    async def _check(self, item: Check) -> list[Any]:
        stage, texts, trace = item
        return await call("guard", lambda: self._one[stage].remote(texts, **trace))

    async def _check_many(self, items: list[Check]) -> Sequence[list[Any] | BaseException]:
        return await call("guard", lambda: self._several.remote(items))


Asked = tuple[str, int | None, str, Rights, Traced]  # the arguments of a search


class RetrieverHandle:
    """``RetrieverClient`` over a Serve handle.

    Args:
        replicas: the most that the deployment has. Their number follows the texts that they have, not the calls.
    """

    def __init__(self, handle: DeploymentHandle, replicas: int = 1) -> None:
        self._handle, self._lanes = handle, LANES * replicas
        self._one = handle.options(method_name="search", **PICKLED)
        self._several = handle.options(method_name="search_many", **PICKLED)
        # By what is searched for whom: where that must be loaded or made first, those who want another do not wait.
        self._searches: dict[tuple[str, Rights], Coalesced[Asked, Retrieval]] = {}

    async def search(self, question: str, k: int | None, collection: str = "", rights: Rights = NO_RIGHTS) -> Retrieval:
        """See ``RetrieverClient``."""
        asked, key = (question, k, collection, rights, carried()), (collection, rights)
        if len(question) > LONG_CHARS:
            return await self._search(asked)
        if (searches := self._searches.get(key)) is None:
            self._searches = {known: one for known, one in self._searches.items() if not one.idle}
            searches = self._searches[key] = Coalesced(self._search, self._search_many, self._lanes)
        return await searches.call(asked)

    async def _search(self, asked: Asked) -> Retrieval:
        *arguments, trace = asked
        return await call("retriever", lambda: self._one.remote(*arguments, **trace))

    async def _search_many(self, items: list[Asked]) -> Sequence[Retrieval | BaseException]:
        return await call("retriever", lambda: self._several.remote(items))

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


class ReplicaDiedError(UnavailableError):
    """The replica that was to answer has died."""


async def _spoken(response: Any) -> AsyncGenerator[str | Answer, None]:
    """What a tier says."""
    try:
        async for item in response:
            yield item
    except RayTaskError as error:
        raise cause_of(error) from None
    except RayActorError as error:
        raise ReplicaDiedError(f"the tier is not available ({type(error).__name__})") from error
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
        self._handle, self._streams, self._follows = handle, handle.options(stream=True, **PICKLED), follows
        self._asked_at = -math.inf
        self._asking: asyncio.Task[bool] | None = None
        self._lost = False
        self._load = TierLoad()

    @property
    def state(self) -> TierState:
        """What its replicas last said, with the load and the latency this gateway sees itself."""
        latency_ms = self._load.latency.ms or self._state.latency_ms
        return replace(self._state, ongoing=self._load.ongoing, latency_ms=latency_ms)

    async def refresh(self) -> None:
        """At most one question in ``REFRESH_S``; whoever asks it waits after a silence, when what is known is old,
        until it is known anew (Serve would have a request wait for a replica that may not come), and hardly where
        nobody answered the last one."""
        if not self._follows:
            return
        age = time.monotonic() - self._asked_at
        if self._asking is None or (self._asking.done() and age >= REFRESH_S):
            self._asked_at = time.monotonic()
            self._asking = asyncio.get_running_loop().create_task(self._ask())
            if age > STALE_S:
                await asyncio.wait({self._asking}, timeout=LOST_S if self._lost else None)

    def wake(self) -> None:
        """Nothing to do: it has replicas at all times."""

    async def _ask(self, within_s: float = DEAD_AFTER_S) -> bool:
        """Ask what is served; whether somebody said so."""
        try:
            async with asyncio.timeout(within_s):
                found = await self._asked()
        except (RayError, RayServeException, TimeoutError) as error:
            if self._state.ready:
                log_event("gateway", "tier_lost", tier=self._state.name, error=str(error)[:300])
            self._state, self._lost = self._unknown, True
            return False
        self._state, self._lost = (found if self._follows else self._state), False
        return True

    async def _asked(self) -> TierState:
        """What a replica says of itself; where it has died another one has ``ANOTHER_S``, as there may be none."""
        try:
            return await self._from_one()
        except RayActorError:
            async with asyncio.timeout(ANOTHER_S):
                return await self._from_one()

    async def _from_one(self) -> TierState:
        response: Any = self._handle.state.remote()
        try:
            found: TierState = await response
        finally:
            response.cancel()  # does nothing where it has answered
        return found

    async def _said(self, send: Callable[[], Any]) -> AsyncGenerator[str | Answer, None]:
        """What a tier says. Where its replica dies before the first word another one is asked, once, if there is one:
        what was said cannot be taken back."""
        silent = True
        try:
            async with aclosing(_spoken(send())) as items:
                async for item in items:
                    silent = False
                    yield item
            return
        except ReplicaDiedError:
            if not silent or not await self._ask(ANOTHER_S):
                raise
        async with aclosing(_spoken(send())) as items:
            async for item in items:
                yield item

    async def stream(
        self, question: str, retrieval: Retrieval, sampling: Sampling
    ) -> AsyncGenerator[str | Answer, None]:
        """See ``TierClient``."""
        said = self._said(lambda: self._streams.stream.remote(question, retrieval, sampling, **carried()))
        async with aclosing(self._load.through(said)) as items:
            async for item in items:
                yield item

    async def complete(self, prompt: str, sampling: Sampling) -> AsyncGenerator[str | Answer, None]:
        """See ``TierClient``. Not timed: a continuation is no answer."""
        said = self._said(lambda: self._streams.complete.remote(prompt, sampling, **carried()))
        async with aclosing(self._load.through(said, measured=False)) as items:
            async for item in items:
                yield item


class WholeTierHandle(TierHandle):
    """``TierHandle`` of a tier whose answers are ready at once (kind ``quote``).

    Args:
        replicas: as ``GuardHandle`` takes them.
    """

    def __init__(self, state: TierState, handle: DeploymentHandle, replicas: int = 0) -> None:
        super().__init__(state, handle, follows=False)
        self._several = handle.options(method_name="answer_many", **PICKLED)
        self._answers = Coalesced(self._answer, self._answer_many, LANES * replicas or sys.maxsize)

    async def stream(
        self, question: str, retrieval: Retrieval, sampling: Sampling
    ) -> AsyncGenerator[str | Answer, None]:
        """See ``TierClient``."""
        said = self._whole((question, retrieval, sampling, carried()))
        async with aclosing(self._load.through(said)) as items:
            async for item in items:
                yield item

    async def _whole(self, item: tuple[str, Retrieval, Sampling, Traced]) -> AsyncGenerator[str | Answer, None]:
        yield await self._answers.call(item)

    async def _answer(self, item: tuple[str, Retrieval, Sampling, Traced]) -> Answer:
        *arguments, trace = item
        async with aclosing(self._said(lambda: self._streams.stream.remote(*arguments, **trace))) as items:
            async for found in items:
                if isinstance(found, Answer):
                    return found
        raise UnavailableError(f"the tier {self._state.name} ended without an answer")

    async def _answer_many(
        self, items: list[tuple[str, Retrieval, Sampling, Traced]]
    ) -> Sequence[Answer | BaseException]:
        found: Sequence[Answer | BaseException] = await self._several.remote(items)
        return found
