"""Collaborators of the gateway over Serve handles (R).

Ray's failures become the request path's: a replica that died or is overloaded is an UnavailableError, an error raised
by the deployment itself arrives as what it was. Calls without side effects are retried on another replica when the one
they ran on died: Serve does not do that by itself.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RayServeException
from ray.serve.handle import DeploymentHandle

from cluster.core.records import Answer
from serve_apps.collaborators import InputCheck, OutputCheck, Sampling
from serve_apps.errors import UnavailableError

if TYPE_CHECKING:
    from data_jobs.retrieval.results import Retrieval

RETRIES = 2
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


def cause_of(error: RayTaskError) -> BaseException:
    """What the remote code raised, without Ray's wrapping."""
    cause = error.cause
    return cause if isinstance(cause, BaseException) else UnavailableError(f"remote failure: {cause}")


class GuardHandle:
    """``GuardClient`` over a Serve handle."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle

    async def check_input(self, texts: list[str]) -> list[InputCheck]:
        return await call("guard", lambda: self._handle.check_input.remote(texts))

    async def check_output(self, texts: list[str]) -> list[OutputCheck]:
        return await call("guard", lambda: self._handle.check_output.remote(texts))


class RetrieverHandle:
    """``RetrieverClient`` over a Serve handle."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle

    async def search(self, question: str, k: int | None) -> Retrieval:
        return await call("retriever", lambda: self._handle.search.remote(question, k))

    async def embed(self, texts: list[str]) -> list[list[float]]:
        return await call("retriever", lambda: self._handle.embed.remote(texts))

    async def info(self) -> dict[str, Any]:
        return await call("retriever", lambda: self._handle.info.remote())


class TierHandle:
    """``TierClient`` over a Serve handle. Streams are not retried: what was sent cannot be taken back."""

    def __init__(self, handle: DeploymentHandle, model_version: str, knowledge_cutoff: str = "") -> None:
        self._handle = handle.options(stream=True)
        self.model_version = model_version
        self.knowledge_cutoff = knowledge_cutoff

    async def stream(
        self, question: str, retrieval: Retrieval, sampling: Sampling
    ) -> AsyncGenerator[str | Answer, None]:
        response: Any = self._handle.stream.remote(question, retrieval, sampling)
        try:
            async for item in response:
                yield item
        except RayTaskError as error:
            raise cause_of(error) from None
        except (RayError, RayServeException) as error:
            raise UnavailableError(f"the tier is not available ({type(error).__name__})") from error
        finally:
            response.cancel()
