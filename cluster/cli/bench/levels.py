"""How many requests at once a measurement is to make: what ``--concurrency`` says."""

from __future__ import annotations

from cluster.core.errors import UsageError


def levels_of(text: str | None) -> tuple[int, ...]:
    """The concurrencies of ``--concurrency``; none where nothing is written.

    Raises:
        UsageError: they are no whole numbers from 1 on.
    """
    try:
        levels = tuple(int(part) for part in (text or "").split(",") if part.strip())
    except ValueError:
        raise UsageError(f"--concurrency {text!r}: write whole numbers with commas, for example 1,8,32") from None
    if any(level < 1 for level in levels):
        raise UsageError(f"--concurrency {text!r}: every level must be 1 or more")
    return levels
