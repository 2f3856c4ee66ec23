"""Waiting for collaborators: two at once, or one that counts as down when it fails in any way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar

from serve_apps.errors import ApiError, UnavailableError

First = TypeVar("First")
Second = TypeVar("Second")


async def together(first: Coroutine[Any, Any, First], second: Coroutine[Any, Any, Second]) -> tuple[First, Second]:
    """Await both at once. The first error cancels the other and is raised as it is, not in a group."""
    try:
        async with asyncio.TaskGroup() as group:
            one, two = group.create_task(first), group.create_task(second)
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return one.result(), two.result()


async def or_unavailable(call: Awaitable[First], timeout_s: float, what: str) -> First:
    """Await ``call``; whatever goes wrong with it, a bug included, means ``what`` is down (fails closed).

    Raises:
        UnavailableError: it failed, was cancelled from its side, or did not answer within ``timeout_s``.
    """
    task = asyncio.ensure_future(call)
    try:
        await asyncio.wait({task}, timeout=timeout_s)
    finally:
        if not task.done():
            task.cancel()
    if not task.done():
        raise UnavailableError(f"{what} did not answer within {timeout_s:g} s", cause="timeout")
    if task.cancelled():
        raise UnavailableError(f"{what} went away", cause="cancelled")
    if isinstance(error := task.exception(), UnavailableError | ApiError):
        raise error  # it says itself what is missing
    if error is not None:
        raise UnavailableError(f"{what} is not available", cause=type(error).__name__) from error
    return task.result()
