"""PDF files: a document a page, so that a citation names the page it is from."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cluster.core.records import Document, Quarantined
from data_jobs.extractors.protocol import Budget, Format, Limits, Origin, UnreadableFileError, parsing
from data_jobs.extractors.titles import given_title

# A page without text that shows a picture is a scan; one that shows neither is blank.
MAX_STREAM = 16 << 20  # One stream may unpack to so many bytes; the drawing of a page has no use for more.
_CHECK_EVERY = 2_000  # drawing operations between two looks at the clock


class PdfExtractor:
    """PDF files: one record per page that has text. See ``protocol.Extractor``."""

    format = Format(
        "pdf", (".pdf",), holds_records=True, libraries=("pypdf",), content_types={"application/pdf": ".pdf"}
    )

    def extract(self, data: bytes, origin: Origin, limits: Limits) -> Iterator[Document | Quarantined]:
        budget = Budget(limits, len(data))
        reader, title = _opened(data, limits)
        with parsing("page tree", *_errors()):
            count = len(reader.pages)
        if not count:
            raise UnreadableFileError("empty", "no pages")
        if count > limits.pages:
            raise UnreadableFileError("too_many_pages", f"{count} pages; the limit is {limits.pages}")
        found: list[Document | Quarantined] = []
        texts = 0
        for number in range(1, count + 1):
            budget.check_time()
            try:
                text, pictures = _page(reader, number, budget)
            except UnreadableFileError as error:
                if error.args[0] not in ("damaged", "bomb"):
                    raise
                found.append(origin.refused(str(number), *error.args))
                continue
            if text.strip():
                texts += 1
                name = f"{title or origin.stem}, page {number}" if count > 1 else title or origin.stem
                found.append(origin.record(str(number), f"page {number}", name, text))
            elif pictures:
                found.append(origin.refused(str(number), "image_only", "a scanned page: it needs text recognition"))
            else:
                found.append(origin.refused(str(number), "empty_page"))
        if not texts:
            raise _nothing(found, count)
        yield from found


def _opened(data: bytes, limits: Limits) -> tuple[Any, str]:
    import pypdf

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # it warns of every oddity on stderr
    most = min(MAX_STREAM, limits.text_bytes)
    pypdf.overwrite_configuration(
        zlib_maximum_output_length=most, lzw_maximum_output_length=most, run_length_maximum_output_length=most,
        array_based_stream_maximum_output_length=most, brotli_maximum_output_length=most,
    )  # fmt: skip
    if not data[:1024].lstrip().startswith(b"%PDF-"):
        raise UnreadableFileError("damaged", "not a PDF: it does not start with %PDF-")
    with parsing("PDF", *_errors()):
        reader = pypdf.PdfReader(io.BytesIO(data), strict=False)
        encrypted = reader.is_encrypted
        if encrypted and not reader.decrypt(""):
            raise UnreadableFileError("encrypted", "it needs a password")
        meta = reader.metadata
        title = str(meta.title or "") if meta is not None else ""
    return reader, given_title(title) if title.isprintable() else ""


def _page(reader: Any, number: int, budget: Budget) -> tuple[str, bool]:
    """Text of one page (1-based), and whether it shows pictures."""
    seen = 0

    def watch(*_: Any) -> None:
        nonlocal seen
        seen += 1
        if not seen % _CHECK_EVERY:
            budget.check_time()

    with parsing(f"page {number}", *_errors()), _bounded():
        page = reader.pages[number - 1]
        text = page.extract_text(visitor_operand_before=watch) or ""
        pictures = not text.strip() and _has_pictures(page)
    budget.take_text(text)
    return text, pictures


@contextmanager
def _bounded() -> Iterator[None]:
    from pypdf.errors import LimitReachedError

    try:
        yield
    except LimitReachedError as error:
        raise UnreadableFileError("bomb", str(error)) from None


def _has_pictures(page: Any) -> bool:
    resources = page.get("/Resources")
    objects = resources.get_object().get("/XObject") if resources is not None else None
    if objects is None:
        return b"BI" in (page.get_contents().get_data() if page.get_contents() is not None else b"")
    return any(o.get_object().get("/Subtype") in ("/Image", "/Form") for o in objects.get_object().values())


def _nothing(found: list[Document | Quarantined], count: int) -> UnreadableFileError:
    reasons = [f.reason for f in found if isinstance(f, Quarantined)]
    for reason in ("bomb", "damaged", "image_only"):
        if reason in reasons:
            first = next(f for f in found if isinstance(f, Quarantined) and f.reason == reason)
            return UnreadableFileError(reason, f"{reasons.count(reason)} of {count} pages: {first.detail}")
    return UnreadableFileError("no_text", f"{count} blank pages")


def _errors() -> tuple[type[Exception], ...]:
    from pypdf.errors import PyPdfError

    return (PyPdfError,)
