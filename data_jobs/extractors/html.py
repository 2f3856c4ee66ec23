"""Web pages: the main text without navigation, scripts and styles (trafilatura), and the page's title."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator

from cluster.core.records import Document, Quarantined
from data_jobs.extractors.encoding import decode_file
from data_jobs.extractors.protocol import Budget, Format, Limits, Origin, UnreadableFileError, clean_title, parsing
from data_jobs.extractors.titles import given_title, page_title

# Open elements inside each other: parsers recurse over deeper trees until they crash, and no author writes such.
MAX_DEPTH = 400
_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]{0,20})[^<>]{0,4000}?(/?)>")
# Not Python's others: punycode, unicode_escape and the like are no character sets of pages.
_BROWSER_CODECS = (
    "iso8859", "cp125", "cp866", "koi8", "mac", "gb", "big5", "euc", "iso2022_jp", "shift_jis", "cp932", "cp949",
    "utf-16",
)  # fmt: skip
_VOID_NAMES = "area base br col embed hr img input link meta param source track wbr"
# An end tag of these is optional, so that counting them would find depth where there is none.
_OPTIONAL_NAMES = "p li dt dd tr td th thead tbody tfoot option optgroup colgroup rt rp"
_UNCOUNTED = frozenset(f"{_VOID_NAMES} {_OPTIONAL_NAMES}".split())
_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([a-zA-Z0-9_:.-]{2,40})", re.I)


class HtmlExtractor:
    """Web pages: their main text without navigation as one document. See ``protocol.Extractor``."""

    format = Format(
        "html", (".html", ".htm", ".xhtml"), libraries=("trafilatura",),
        content_types={"text/html": ".html", "application/xhtml+xml": ".html"},
    )  # fmt: skip

    def extract(self, data: bytes, origin: Origin, limits: Limits) -> Iterator[Document | Quarantined]:
        page, steps = page_text(data, limits)
        title, body = main_text(page, Budget(limits, len(data)))
        yield origin.document(title, body, steps=steps)


def page_text(data: bytes, limits: Limits, declared: str = "") -> tuple[str, tuple[str, ...]]:
    """A page's source as text: by its mark, as UTF-8, by what it or its server declares, by a guess; in this order.

    Raises:
        UnreadableFileError: it is none of them.
    """
    try:
        data.removeprefix(b"\xef\xbb\xbf").decode("utf-8")
    except UnicodeDecodeError:
        found = _CHARSET.search(data[:4096])
        name = _codec(declared or (found[1].decode("ascii") if found else ""))
        if name and not data.startswith((b"\xff\xfe", b"\xfe\xff")):
            try:
                text = data.decode(name)
                return text, (f"decoded:{name}",)
            except UnicodeError:  # a wrong declaration is none
                pass
    # A page may well be one long line.
    return decode_file(data, max(limits.line_bytes, limits.file_bytes))


def _codec(declared: str) -> str:
    """The codec of a declared character set, empty where there is none a browser knows.

    Browsers read Latin-1 as Windows-1252, so that is what pages are written in
    (https://encoding.spec.whatwg.org/#names-and-labels).
    """
    try:
        name = codecs.lookup(declared).name if declared else ""
    except LookupError:
        return ""
    if name in ("iso8859-1", "ascii"):
        return "cp1252"
    return name if name.startswith(_BROWSER_CODECS) else ""


def main_text(page: str, budget: Budget) -> tuple[str, str]:
    """Title and main text of a page.

    Raises:
        UnreadableFileError: not a page (``damaged``), nested too deep, or without text (``no_text``).
    """
    _check_depth(page)
    with parsing("HTML"):
        from trafilatura import bare_extraction

        found = bare_extraction(
            page, output_format="python", include_comments=False, include_tables=True, include_formatting=True,
            favor_recall=True, with_metadata=True, deduplicate=False,
        )  # fmt: skip
        page_found = None if found is None or isinstance(found, dict) else found
        text = (page_found.text or "").strip() if page_found is not None else ""
        title = (page_found.title or "") if page_found is not None else ""
    budget.take_text(text)
    if not text:
        raise UnreadableFileError("no_text", "no main text: a page of navigation or scripts only, or not a page")
    return clean_title(page_title(page) or given_title(title)), text


def _check_depth(page: str) -> None:
    depth = 0
    for close, name, empty in _TAG.findall(page):
        lowered = name.lower()
        if lowered in _UNCOUNTED or empty:
            continue
        depth = max(0, depth - 1) if close else depth + 1
        if depth > MAX_DEPTH:
            raise UnreadableFileError("bomb", f"over {MAX_DEPTH} nested elements")
