"""How many requests of a key are under way: a limit on what it holds open, which no budget sees. Pure.

Each gateway counts for itself. Who reads slowly holds a place until the stream has ended or broken off.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cluster.core.identity import Principal
from serve_apps.errors import RETRY_AFTER_S, ApiError


class Streams:
    """Counts, by key.

    Args:
        most: of a key that has no number of its own.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: dict[str, int] = {}

    def __len__(self) -> int:
        """Keys with requests under way."""
        return len(self._open)

    @contextmanager
    def of(self, principal: Principal) -> Iterator[ApiError | None]:
        """One more request of a key, for the length of the ``with`` block; why it may not have it, or None."""
        most = self._most if principal.streams is None else principal.streams
        key, held = principal.key_id, self._open.get(principal.key_id, 0)
        if held >= most:
            yield too_many(most)
            return
        self._open[key] = held + 1
        try:
            yield None
        finally:
            self._open[key] -= 1
            if not self._open[key]:
                del self._open[key]


def too_many(most: int) -> ApiError:
    """429: to come again when one has ended."""
    message = f"this key has {most} requests under way here, as many as it may have at once; try again when one ended"
    return ApiError(message, status=429, kind="rate_limit_error", code="rate_limit_exceeded",
                    headers={"retry-after": str(RETRY_AFTER_S)})  # fmt: skip
