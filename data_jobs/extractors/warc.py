"""Web archives: the HTML and plain-text responses of a .warc or .warc.gz file, with their addresses as sources.

Requests, metadata and the like are no documents and are passed over; a response of another type, an error page, or one
whose digest does not match is quarantined. After a damaged record reading goes on at the next one that can be found.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from dataclasses import replace
from typing import Any

from cluster.core.records import Document, Quarantined
from data_jobs.extractors.html import main_text, page_text
from data_jobs.extractors.protocol import Budget, Format, Limits, Origin, UnreadableFileError, parsing, printable

MAX_RESTARTS = 100
_GZIP = b"\x1f\x8b\x08"
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([a-zA-Z0-9_:.-]{2,40})", re.I)


class WarcExtractor:
    """Web archives: one record per response that is HTML or plain text. See ``protocol.Extractor``."""

    format = Format(
        "warc", (".warc", ".warc.gz"), holds_records=True, libraries=("warcio",),
        content_types={"application/warc": ".warc"},
    )  # fmt: skip

    def extract(self, data: bytes, origin: Origin, limits: Limits) -> Iterator[Document | Quarantined]:
        packed = data.startswith(_GZIP)
        if not packed and not data.startswith(b"WARC/"):
            raise UnreadableFileError("damaged", "not a web archive: it starts with neither WARC/ nor a gzip header")
        budget = Budget(limits, len(data))
        number, start, yielded = 0, 0, False
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
                    if isinstance(found, Document) and not origin.span:
                        found = replace(found, span=span)
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
    if record.rec_type not in ("response", "resource"):
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
    if kind not in ("text/html", "application/xhtml+xml", "text/plain"):
        return origin.refused(name, "unsupported_kind", f"{printable(kind)[:80]} {url}")
    body = _body(record, budget)
    if record.digest_checker is not None and record.digest_checker.passed is False:
        return origin.refused(name, "bad_digest", url)
    found = _CHARSET.search(declared)
    try:
        page, steps = page_text(body, limits, found[1] if found else "")
        if kind == "text/plain":
            title, text = "", page
            budget.take_text(text)
        else:
            title, text = main_text(page, budget)
    except UnreadableFileError as error:
        return origin.refused(name, str(error.args[0]), f"{url} {error.args[1] if len(error.args) > 1 else ''}")
    return origin.record(
        name, str(number), title or url, text, source=url or f"{origin.path}:{number}", steps=steps,
    )  # fmt: skip


def _body(record: Any, budget: Budget) -> bytes:
    """The response's body with its transfer and content encodings undone, piece by piece."""
    pieces = []
    with parsing("body", *_errors()):
        stream = record.content_stream()
        while piece := stream.read(1 << 16):
            budget.take(len(piece))
            pieces.append(piece)
        while piece := record.raw_stream.read(1 << 16):  # what follows the body's own end
            budget.take(len(piece))
        if getattr(record.raw_stream, "limit", 0) > 0:
            raise UnreadableFileError("damaged", f"cut off: {record.raw_stream.limit} bytes are missing")
    return b"".join(pieces)


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
