"""PDF files: a document a page, so that a citation names the page it is from.

The library is pdfium, in a process of its own (``pdf_process``): twelve times as fast as pypdf, with the same words.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cluster.core.records import Document, Quarantined
from data_jobs.extractors.pdf_pages import readable
from data_jobs.extractors.pdf_process import PdfProcess
from data_jobs.extractors.protocol import Budget, Format, Limits, Origin, Skipped, UnreadableFileError
from data_jobs.extractors.titles import given_title

_PROCESS = PdfProcess()


class PdfExtractor:
    """PDF files: one record per page that has text. See ``protocol.Extractor``."""

    format = Format(
        "pdf", (".pdf",), holds_records=True, libraries=("pypdfium2",), content_types={"application/pdf": ".pdf"}
    )

    def extract(self, data: bytes, origin: Origin, limits: Limits) -> Iterator[Document | Quarantined]:
        budget, head, pages = Budget(limits, len(data)), dict[str, Any](), list[dict[str, Any]]()
        broken: UnreadableFileError | None = None
        budget.check_time()
        try:
            for answer in _PROCESS.read(data, limits):
                if not head:
                    head = answer
                    continue
                budget.take_text(answer.get("text", ""))
                pages.append(answer)
        except UnreadableFileError as error:
            if not any(page.get("text", "").strip() for page in pages):
                raise
            broken = error
        yield from _records(head, pages, origin)
        if broken is not None:  # what was read before it stands
            raise broken


def _records(head: dict[str, Any], pages: list[dict[str, Any]], origin: Origin) -> Iterator[Document | Quarantined]:
    given = str(head.get("title") or "")
    title, count = given_title(given) if given.isprintable() else "", int(head["pages"])
    read = [page for page in pages if "text" in page]
    for page, text in zip(read, readable([page["text"] for page in read]), strict=True):
        shown = [text.text, *(f"{name}: {value}" if name else value for name, value in page["values"]), *page["notes"]]
        page["shown"] = "\n".join(part for part in shown if part.strip())
        page["running"] = text.dropped
    found: list[Document | Quarantined] = []
    for number, page in enumerate(pages, start=1):
        if "damaged" in page:
            found.append(origin.refused(str(number), "damaged", page["damaged"]))
        elif page["shown"]:
            name = f"{title or origin.stem}, page {number}" if count > 1 else title or origin.stem
            skipped = Skipped(images=page["images"], running_lines=page["running"], comments=page["comments"],
                              hidden=page["hidden"], attachments=head["attachments"] if number == 1 else 0)  # fmt: skip
            found.append(origin.record(str(number), f"page {number}", name, page["shown"], steps=skipped.steps()))
        elif page["images"]:
            found.append(origin.refused(str(number), "image_only", "a scanned page: it needs text recognition"))
        else:
            found.append(origin.refused(str(number), "empty_page"))
    if not any(isinstance(one, Document) for one in found):
        raise _nothing(found, count)
    yield from found


def _nothing(found: list[Document | Quarantined], count: int) -> UnreadableFileError:
    reasons = [f.reason for f in found if isinstance(f, Quarantined)]
    for reason in ("damaged", "image_only"):
        if reason in reasons:
            first = next(f for f in found if isinstance(f, Quarantined) and f.reason == reason)
            return UnreadableFileError(reason, f"{reasons.count(reason)} of {count} pages: {first.detail}")
    return UnreadableFileError("no_text", f"{count} blank pages")
