"""Web archives: the HTML and plain-text responses of a .warc or .warc.gz file, with their addresses as sources.

Requests, metadata and the like are no documents and are counted only; a response of another type, an error page, or one
whose digest does not match is quarantined. After a damaged record reading goes on at the next one that can be found.
"""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from dataclasses import replace
from typing import Any

from cluster.core.records import Document, Quarantined
from data_jobs.extractors.bodies import decoded_body, gunzip
from data_jobs.extractors.html import main_text, page_text
from data_jobs.extractors.protocol import (
    Budget,
    Format,
    Limits,
    Origin,
    Skipped,
    UnreadableFileError,
    parsing,
    printable,
)

MAX_RESTARTS = 100
_GZIP = b"\x1f\x8b\x08"
_LOOK = 64 << 10
_RECORD_END = b"\r\n\r\n"
_PAGES = ("text/html", "application/xhtml+xml")
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([a-zA-Z0-9_:.-]{2,40})", re.I)


class WarcExtractor:
    """Web archives: one record per response that is HTML or plain text. See ``protocol.Extractor``."""

    format = Format(
        "warc", (".warc", ".warc.gz"), holds_records=True, libraries=("warcio", "lxml", "trafilatura"),
        content_types={"application/warc": ".warc"},
    )  # fmt: skip

    def extract(self, data: bytes, origin: Origin, limits: Limits) -> Iterator[Document | Quarantined]:
        data, packed, whole = _unpacked(data, limits)
        if not packed and not data.startswith(b"WARC/"):
            raise UnreadableFileError("damaged", "not a web archive: it starts with neither WARC/ nor a gzip header")
        budget = Budget(limits, len(data))
        number, start, yielded = 0, 0, False
        passed_over = Skipped()
        for _ in range(MAX_RESTARTS):
            where = start  # the end of the last record that was read
            try:
                for record, span_of in _records(data, start, budget):
                    number += 1
                    if number > limits.entries:
                        raise UnreadableFileError("too_many_entries", f"over {limits.entries} records")
                    found = _read(record, origin, number, limits, budget)
                    span = span_of()
                    where = span[1]
                    if found is None:
                        passed_over[f"{printable(record.rec_type or 'unknown')[:20]}_records"] += 1
                    if isinstance(found, Document):
                        place = found.span if origin.span or whole else span
                        found = replace(found, span=place, steps=(*found.steps, *passed_over.steps()))
                        passed_over.clear()
                    if found is not None:
                        yielded = True
                        yield found
                if not yielded:
                    raise UnreadableFileError("no_text", f"none of {number} records is a response")
                return
            except UnreadableFileError as error:
                if error.args[0] != "damaged":
                    raise
                start = _next_record(data, where + 1, packed)
                if start < 0 and not yielded and not number:
                    raise
                number += 1
                yielded = True
                yield origin.refused(str(number), "damaged", f"at byte {where}: {error.args[1]}")
            if start < 0:
                return
        raise UnreadableFileError("damaged", f"over {MAX_RESTARTS} damaged records")


def _records(data: bytes, start: int, budget: Budget) -> Iterator[tuple[Any, Callable[[], tuple[int, int]]]]:
    """Records from byte ``start`` on, each with what tells its first and last byte once it was read."""
    with parsing("WARC", *_errors()):
        from warcio.archiveiterator import ArchiveIterator

        archive = ArchiveIterator(io.BytesIO(data[start:]), check_digests=True)

    def span() -> tuple[int, int]:
        with redirect_stderr(io.StringIO()), parsing("WARC", *_errors()):
            first = start + archive.get_record_offset()
            return first, first + archive.get_record_length()

    while True:
        budget.check_time()
        # warcio writes what it skips, whole lines of the archive, to stderr.
        with redirect_stderr(io.StringIO()), parsing("WARC", *_errors()):
            record = next(archive, None)
        if record is None:
            return
        yield record, span


def _read(record: Any, origin: Origin, number: int, limits: Limits, budget: Budget) -> Document | Quarantined | None:
    """One record: a document, a reason, or None for what is no response."""
    if record.rec_type not in ("response", "resource", "conversion"):
        return None
    name = str(number)
    with parsing("record", *_errors()):
        url = printable(record.rec_headers.get_header("WARC-Target-URI") or "").strip("<>")
        headers = record.http_headers
        status = headers.get_statuscode() if headers is not None else "200"
        declared = (headers.get_header("Content-Type") if headers is not None else record.content_type) or ""
    kind = declared.partition(";")[0].strip().lower()
    if not str(status).startswith("2"):
        return origin.refused(name, "http_status", f"{status} {url}")
    if kind and kind not in _PAGES and kind != "text/plain":
        return origin.refused(name, "unsupported_kind", f"{printable(kind)[:80]} {url}")
    try:
        body = decoded_body(_body(record, budget), headers, budget)
    except UnreadableFileError as error:
        if error.args[0] != "unsupported_kind":
            raise
        return origin.refused(name, *(str(part) for part in error.args))
    if record.digest_checker is not None and record.digest_checker.passed is False:
        return origin.refused(name, "bad_digest", url)
    if not kind:  # a server that says nothing: what begins like a page is one
        if body.lstrip()[:1] != b"<":
            return origin.refused(name, "unsupported_kind", f"no content type {url}")
        kind = "text/html"
    skipped = Skipped()
    found = _CHARSET.search(declared)
    try:
        page, steps = page_text(body, limits, found[1] if found else "")
        if kind == "text/plain":
            title, text = "", page
            budget.take_text(text)
        else:
            title, text = main_text(page, budget, skipped)
    except UnreadableFileError as error:
        return origin.refused(name, str(error.args[0]), f"{url} {error.args[1] if len(error.args) > 1 else ''}")
    return origin.record(
        name, str(number), title or url, text, source=url or f"{origin.path}:{number}",
        steps=(*steps, *skipped.steps()),
    )  # fmt: skip


def _body(record: Any, budget: Budget) -> bytes:
    """The response's body as it was sent, piece by piece."""
    pieces = []
    with parsing("body", *_errors()):
        while piece := record.raw_stream.read(1 << 16):
            budget.take(len(piece))
            pieces.append(piece)
        if getattr(record.raw_stream, "limit", 0) > 0:
            raise UnreadableFileError("damaged", f"cut off: {record.raw_stream.limit} bytes are missing")
    return b"".join(pieces)


def _unpacked(data: bytes, limits: Limits) -> tuple[bytes, bool, bool]:
    """The archive; whether each of its records is packed by itself; and whether it was unpacked here as a whole.

    The standard wants a member of gzip for each record; files packed by ``gzip`` have one for all of them.
    """
    if not data.startswith(_GZIP):
        return data, False, False
    unpacker = zlib.decompressobj(wbits=31)
    with parsing("gzip"):
        start = unpacker.decompress(data, _LOOK)
        size = _first_record_size(start)
        if size is None or (unpacker.eof and len(start) <= size + len(_RECORD_END)):
            return data, True, False
        budget = Budget(limits, len(data))
        pieces, have = [start], len(start)
        budget.take(have)
        while not unpacker.eof and have <= size + len(_RECORD_END):  # is there more in this member than its record?
            piece = unpacker.decompress(unpacker.unconsumed_tail, 1 << 16)
            if not piece:
                return data, True, False
            budget.take(len(piece))
            pieces.append(piece)
            have += len(piece)
        if have <= size + len(_RECORD_END):
            return data, True, False
    return gunzip(data, Budget(limits, len(data))), False, True


def _first_record_size(start: bytes) -> int | None:
    """Bytes of the first record, its header included; None where that is not to be seen."""
    end = start.find(b"\r\n\r\n")
    length = re.search(rb"(?im)^Content-Length:[ \t]*(\d{1,15})[ \t]*\r?$", start[: max(0, end)])
    return end + 4 + int(length[1]) if length else None


def _next_record(data: bytes, after: int, packed: bool) -> int:
    """Where the next record can begin; -1 where there is none."""
    if packed:
        return data.find(_GZIP, after)
    at = data.find(b"\r\n\r\nWARC/1.", after)
    return at + 4 if at >= 0 else -1


def _errors() -> tuple[type[Exception], ...]:
    from warcio.exceptions import ArchiveLoadFailed
    from warcio.recordloader import ArchiveLoadFailed as LoadFailed
    from warcio.statusandheaders import StatusAndHeadersParserException

    return (ArchiveLoadFailed, LoadFailed, StatusAndHeadersParserException)
