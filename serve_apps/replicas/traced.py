"""Replicas that take the trace of a request over with each call, and tell how long their part of it took."""

from __future__ import annotations

import functools
import inspect
import sys
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import Any, TypeVar

from cluster.core.trace import CURRENT, Trace
from serve_apps.metrics.spans import Span, Spans

Replica = TypeVar("Replica", bound=type)


def traced(component: str, *methods: str) -> Callable[[Replica], Replica]:
    """A class decorator: these methods may be called with ``traceparent``, which becomes the trace of what they do.

    A span named ``component.method`` goes to the attribute ``spans`` of the replica, where it has one.
    """

    def wrapped(kind: Replica) -> Replica:
        for name in methods:
            method = getattr(kind, name)
            wrap = _generator if inspect.isasyncgenfunction(method) else _coroutine
            setattr(kind, name, wrap(f"{component}.{name}", method))
        return kind

    return wrapped


def _coroutine(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    async def work(self: Any, *args: Any, traceparent: str = "", **options: Any) -> Any:
        with _part(self, name, traceparent):
            return await method(self, *args, **options)

    return work


def _generator(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    async def work(self: Any, *args: Any, traceparent: str = "", **options: Any) -> AsyncGenerator[Any, None]:
        with _part(self, name, traceparent):
            async with aclosing(method(self, *args, **options)) as items:
                async for item in items:
                    yield item

    return work


@contextmanager
def _part(replica: Any, name: str, traceparent: str) -> Iterator[None]:
    """The context is that of the call, which ends with it, so nothing has to be put back."""
    theirs = Trace.read(traceparent) if traceparent else None
    if theirs is None:
        yield
        return
    ours = theirs.within()
    CURRENT.set(ours)
    began = time.time()
    try:
        yield
    finally:
        failed = isinstance(sys.exception(), Exception)  # who was cancelled did not fail
        spans: Spans | None = getattr(replica, "spans", None)
        if spans:
            spans.add(Span(ours, name, began, time.time(), failed=failed))
