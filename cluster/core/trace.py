"""Which request of which client a piece of work belongs to: W3C Trace Context, level 1, over every hop.

A client's trace id is taken over; without one, or where it is malformed, a new one is made. The trace of the work that
goes on is in ``CURRENT``, which tasks inherit; between processes it travels as the text of ``traceparent``.
"""

from __future__ import annotations

import re
import secrets
from contextvars import ContextVar
from dataclasses import dataclass, replace

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_SAMPLED = 0x01


@dataclass(frozen=True)
class Trace:
    """One span of a trace: 16 and 8 bytes as hexadecimal digits, the span it is a part of (empty: none), the flags."""

    trace_id: str
    span_id: str
    parent_id: str = ""
    flags: int = _SAMPLED

    @classmethod
    def new(cls) -> Trace:
        """The first span of a new trace."""
        return cls(secrets.token_hex(16), secrets.token_hex(8))

    @classmethod
    def read(cls, traceparent: str) -> Trace | None:
        """The span that a header names; None where it is malformed, which is as good as no header."""
        found = _TRACEPARENT.fullmatch(traceparent.strip(" \t"))
        if found is None:
            return None
        version, trace_id, span_id, flags, more = found.groups()
        if version == "ff" or (version == "00" and more) or not (int(trace_id, 16) and int(span_id, 16)):
            return None
        return cls(trace_id, span_id, flags=int(flags, 16) & _SAMPLED)

    @classmethod
    def taken_over(cls, traceparent: str) -> Trace:
        """A span of our own within the trace of a header, or of a new trace."""
        theirs = cls.read(traceparent)
        return theirs.within() if theirs else cls.new()

    def within(self) -> Trace:
        """A new span that is a part of this one."""
        return replace(self, span_id=secrets.token_hex(8), parent_id=self.span_id)

    @property
    def header(self) -> str:
        """As ``traceparent`` has it."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}"

    @property
    def sampled(self) -> bool:
        """Whether its spans are wanted by whoever began it."""
        return bool(self.flags & _SAMPLED)


CURRENT: ContextVar[Trace | None] = ContextVar("plinth_trace", default=None)


def carried() -> dict[str, str]:
    """The keyword that takes the trace of the work that goes on into another process; none where there is no trace."""
    trace = CURRENT.get()
    return {"traceparent": trace.header} if trace else {}
