"""Server-sent events out of the bytes of a stream, however they are cut (WHATWG HTML, "Server-sent events").

One thing is read more kindly than there: a last event that no empty line follows counts too.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator

from serve_apps.errors import UnavailableError

MOST_CHARS = 1 << 18  # of one event; a server that sends more means no answer


class EventReader:
    """Takes pieces of bytes and yields the data of events. Comments, names, ids and what is not known are skipped."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
        self._rest = ""
        self._data: list[str] = []
        self._held = 0  # characters in _data

    def feed(self, piece: bytes, final: bool = False) -> Iterator[str]:
        """Take more bytes; with ``final`` there are no more.

        Raises:
            UnavailableError: an event has more than ``MOST_CHARS`` characters.
        """
        text = self._rest + self._decoder.decode(piece, final)
        if not final and text.endswith("\r"):  # the next piece may begin with the \n that belongs to it
            self._rest, text = "\r", text[:-1]
        else:
            self._rest = ""
        *lines, rest = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        self._rest = rest + self._rest
        for line in lines:
            if (event := self._take(line)) is not None:
                yield event
        if self._held + len(self._rest) > MOST_CHARS:
            raise UnavailableError("the other server sends events that are too long")
        if final:
            if self._rest:
                self._take(self._rest)
            if (event := self._take("")) is not None:
                yield event

    def _take(self, line: str) -> str | None:
        """One line; the data of an event where it is the empty one that ends it."""
        if line:
            name, _, value = line.partition(":")
            if name == "data":
                value = value.removeprefix(" ")
                self._data.append(value)
                self._held += len(value)
            return None
        event = "\n".join(self._data) if self._data else None
        self._data, self._held = [], 0
        return event
