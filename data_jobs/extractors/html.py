"""Web pages: everything a page shows but navigation, and its title. What is walked: ``html_walk``."""

from __future__ import annotations

import codecs
import html
import re
from collections.abc import Iterator
from typing import Any

from cluster.core.records import Document, Quarantined
from data_jobs.extractors.encoding import decode_file
from data_jobs.extractors.html_walk import Block, Walk, blocks_text
from data_jobs.extractors.protocol import (
    Budget,
    Format,
    Limits,
    Origin,
    Skipped,
    UnreadableFileError,
    clean_title,
    parsing,
)
from data_jobs.extractors.titles import given_title, text_title

MAX_DEPTH = 200  # trafilatura recurses over the tree, this program does not
SURE_LETTERS = 25  # so many letters in a row are the same block, and not chance
_ARTICLES = ("article", "main")
_TEXT_NAMES = "p li pre dt dd td th tr table h1 h2 h3 h4 h5 h6 blockquote"
_OF_TEXT = frozenset(_TEXT_NAMES.split())  # elements that are inside of what holds an article
# Not Python's others: punycode, unicode_escape and the like are no character sets of pages.
_BROWSER_CODECS = (
    "iso8859", "cp125", "cp866", "koi8", "mac", "gb", "big5", "euc", "iso2022_jp", "shift_jis", "cp932", "cp949",
    "utf-16", "tis",
)  # fmt: skip
_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([a-zA-Z0-9_:.-]{2,40})", re.I)
_XML_ENCODING = re.compile(rb"\A\s*<\?xml[^>]{0,200}?\bencoding\s*=\s*[\"']([a-zA-Z0-9_:.-]{2,40})", re.I)
_HEAD_BYTES = 64 << 10  # what a page declares may stand behind many scripts
_XHTML = re.compile(r"<\?xml|xmlns=[\"']http://www\.w3\.org/1999/xhtml", re.I)
_END_OF_PAGE = re.compile(r"</(?:body|html)\s{0,20}>", re.I)
_CLOSES_ITSELF = re.compile(
    r"<((?:script|style|title|textarea|iframe|noscript|template|div|span|p|a|i|b|em|td|th|li)\b)([^<>]{0,2000}?)/>",
    re.I,
)
_FORMATTING = re.compile(r"</?(?:font|span|b|i|u|em|strong|small|big|a|tt|center|s|strike)\b[^<>]{0,2000}>", re.I)


class HtmlExtractor:
    """Web pages: what they show, as one document. See ``protocol.Extractor``."""

    format = Format(
        "html", (".html", ".htm", ".xhtml"), libraries=("lxml",),
        content_types={"text/html": ".html", "application/xhtml+xml": ".html"},
    )  # fmt: skip

    def extract(self, data: bytes, origin: Origin, limits: Limits) -> Iterator[Document | Quarantined]:
        page, steps = page_text(data, limits)
        skipped = Skipped()
        title, body = visible_text(page, Budget(limits, len(data)), skipped)
        yield origin.document(title, body, steps=(*steps, *skipped.steps()))


def page_text(data: bytes, limits: Limits, declared: str = "") -> tuple[str, tuple[str, ...]]:
    """A page's source as text: by its mark, as UTF-8, by what it or its server declares, by a guess; in this order.

    Raises:
        UnreadableFileError: it is none of them.
    """
    try:
        data.removeprefix(b"\xef\xbb\xbf").decode("utf-8")
    except UnicodeDecodeError:
        found = _XML_ENCODING.match(data[:4096]) or _CHARSET.search(data[:_HEAD_BYTES])
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


def visible_text(page: str, budget: Budget, skipped: Skipped) -> tuple[str, str]:
    """Title of a page, and everything it shows but navigation.

    Raises:
        UnreadableFileError: not a page (``damaged``), nested too deep (``bomb``), or without text (``no_text``).
    """
    walk = _walked(page, budget, skipped)
    return _title(walk), blocks_text(walk.blocks)


def main_text(page: str, budget: Budget, skipped: Skipped) -> tuple[str, str]:
    """Title of a page of the web, and its main content: all that stands where trafilatura finds the main text.

    That library tells an article from the menus, teasers and legal lines around it, but drops parts of the article
    itself. So it only says where the article is; what is in it is what is shown.

    Raises:
        UnreadableFileError: as ``visible_text``.
    """
    walk = _walked(page, budget, skipped)
    blocks = _main_blocks(page, walk.blocks)
    skipped["boilerplate"] += len(walk.blocks) - len(blocks)
    return _title(walk), blocks_text(blocks)


def _walked(page: str, budget: Budget, skipped: Skipped) -> Walk:
    with parsing("HTML", *_errors()):
        walk = Walk(budget, skipped).over(_parsed(page))
    if not walk.blocks:
        raise UnreadableFileError("no_text", "no text: a page of navigation or scripts only, or not a page")
    return walk


def _parsed(page: str) -> Any:
    """The tree of a page. Elements that only format text are left out where it is too deep with them."""
    from lxml import etree

    page = _END_OF_PAGE.sub("", page)  # browsers show what stands behind it, the parser drops it
    if _XHTML.search(page[:2000]):  # there any element may close itself, which HTML's parser does not know
        page = _CLOSES_ITSELF.sub(r"<\1\2></\1>", _without_cdata(page))
    for source in (page, _FORMATTING.sub("", page)):
        parser = etree.HTMLParser(encoding="utf-8", huge_tree=True, remove_comments=True, remove_pis=True)
        root = etree.fromstring(source.encode("utf-8", "replace"), parser)
        if not any("depth" in error.message for error in parser.error_log):
            break
    else:
        raise UnreadableFileError("bomb", "thousands of elements inside each other")
    if root is None:
        raise UnreadableFileError("no_text", "an empty page")
    return root


def _without_cdata(page: str) -> str:
    """The source of an XHTML page with its CDATA sections as the text that they are."""
    first, *others = page.split("<![CDATA[")
    parts = [first]
    for other in others:
        text, end, rest = other.partition("]]>")
        parts += [html.escape(text), rest] if end else ["<![CDATA[", other]
    return "".join(parts)


def _title(walk: Walk) -> str:
    return clean_title(given_title(walk.title) or text_title(blocks_text(walk.blocks)))


def _main_blocks(page: str, blocks: list[Block]) -> list[Block]:
    """The blocks of the element that holds all of what is surely main text; all of them where none is sure."""
    from trafilatura import bare_extraction

    if max(len(_with_ancestors(block.element)) for block in blocks) > MAX_DEPTH:  # the library recurses
        return blocks
    with parsing("HTML"):
        found = bare_extraction(page, output_format="python", include_comments=False, favor_recall=True)
        text = (getattr(found, "text", "") or "") if found is not None else ""
    whole, lines = _letters(text), {_letters(line) for line in text.split("\n")}
    letters = [_letters(block.text) for block in blocks]
    sure = [n for n, said in enumerate(letters) if said in lines or (len(said) >= SURE_LETTERS and said in whole)]
    if not sure:
        return blocks
    around = [_with_ancestors(blocks[number].element) for number in sure]
    shared = set.intersection(*map(set, around))
    above = [element for element in around[0] if element in shared]  # innermost first
    holder = next((e for e in above if e.tag in _ARTICLES), above[1] if above[0].tag in _OF_TEXT else above[0])
    if holder.tag not in ("html", "body"):
        return [block for block in blocks if holder in _with_ancestors(block.element)]
    return [
        block for number, block in enumerate(blocks)
        if sure[0] <= number <= sure[-1] or not _is_around(block, len(letters[number]))
    ]  # fmt: skip


def _is_around(block: Block, letters: int) -> bool:
    """Whether a block that stands directly in the page is its head or foot, or links to other pages."""
    if any(element.tag in ("header", "footer") for element in _with_ancestors(block.element)):
        return True
    linked = sum(len(_letters("".join(link.itertext()))) for link in block.element.iter("a"))
    return 2 * linked > letters


def _with_ancestors(element: Any) -> list[Any]:
    return [element, *element.iterancestors()]


def _letters(text: str) -> str:
    return "".join(c for c in text.lower() if c.isalnum())


def _errors() -> tuple[type[Exception], ...]:
    from lxml.etree import LxmlError

    return (LxmlError,)
