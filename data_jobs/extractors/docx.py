"""Word files: everything that a reader sees, in reading order, as Markdown. What is walked: ``docx_body``."""

from __future__ import annotations

import io
import posixpath
import zipfile
from collections.abc import Iterator
from typing import Any

from cluster.core.records import Document, Quarantined
from data_jobs.extractors.docx_body import Walk
from data_jobs.extractors.docx_xml import children, local, value
from data_jobs.extractors.html import page_text, visible_text
from data_jobs.extractors.protocol import Budget, Format, Limits, Origin, Skipped, UnreadableFileError, parsing
from data_jobs.extractors.titles import given_title, text_title

_OLE = b"\xd0\xcf\x11\xe0"  # the container of encrypted Office files and of .doc
_DOCUMENT_TYPES = ("wordprocessingml", "ms-word")


class DocxExtractor:
    """Word files: what they show, as one document. See ``protocol.Extractor``."""

    format = Format("docx", (".docx", ".docm", ".dotx"), libraries=("lxml",))

    def extract(self, data: bytes, origin: Origin, limits: Limits) -> Iterator[Document | Quarantined]:
        check_package(data, limits)
        budget, skipped = Budget(limits, len(data)), Skipped()
        with parsing("DOCX", zipfile.BadZipFile, *_errors()), zipfile.ZipFile(io.BytesIO(data)) as archive:
            package = Package(archive)
            title, parts = package.title(), list(_parts(package, budget, skipped))
        text = "\n\n".join(parts).strip()
        if not text:
            raise UnreadableFileError("no_text", "no paragraph or table with text")
        yield origin.document(title or text_title(text), text, steps=skipped.steps())


def check_package(data: bytes, limits: Limits) -> None:
    """Refuse a package that is no zip file, is encrypted, or unpacks to too much.

    Sizes are the declared ones; zipfile never reads more of a member than it declares.

    Raises:
        UnreadableFileError: ``damaged``, ``encrypted``, ``bomb``, ``too_many_entries``.
    """
    if data.startswith(_OLE):
        raise UnreadableFileError("encrypted", "an encrypted or old (.doc) Office file")
    with parsing("zip", zipfile.BadZipFile), zipfile.ZipFile(io.BytesIO(data)) as package:
        entries = package.infolist()
    if len(entries) > limits.entries:
        raise UnreadableFileError("too_many_entries", f"{len(entries)} parts; the limit is {limits.entries}")
    if any(entry.flag_bits & 1 for entry in entries):
        raise UnreadableFileError("encrypted", "its parts are encrypted")
    total = sum(entry.file_size for entry in entries)
    for entry in entries:
        if entry.file_size > max(1 << 20, entry.compress_size * limits.ratio):
            raise UnreadableFileError("bomb", f"{entry.filename[:80]} unpacks to {entry.file_size} bytes")
    if total > max(limits.text_bytes, limits.file_bytes) * 4:
        raise UnreadableFileError("bomb", f"it unpacks to {total} bytes")


class Package:
    """The parts of a Word file, by what they are to each other (ECMA-376 part 2)."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self.archive = archive
        self.names = {name.lstrip("/").lower(): name for name in archive.namelist()}
        self._relations: dict[str, dict[str, tuple[str, str]]] = {}
        found = self.of_kind("", "officeDocument")
        self.main = found[0] if found else "word/document.xml"
        if not self.has(self.main):
            raise UnreadableFileError("damaged", "there is no document in the package")
        kind = self._main_type()
        if kind and not any(mark in kind for mark in _DOCUMENT_TYPES):
            raise UnreadableFileError("damaged", f"not a Word file but {kind[:100]}")

    def has(self, part: str) -> bool:
        """Whether the package has this part."""
        return part.lower() in self.names

    def read(self, part: str) -> bytes:
        """The bytes of a part; none where it is missing."""
        return self.archive.read(self.names[part.lower()]) if self.has(part) else b""

    def root(self, part: str) -> Any:
        """The root element of a part, None where it is missing. Entities are not resolved."""
        from lxml import etree

        data = self.read(part)
        if not data:
            return None
        # Entities stay what they are; deep trees are left to the walk, which knows how deep it may go.
        parser = etree.XMLParser(resolve_entities=False, no_network=True, remove_comments=True, remove_pis=True)
        return etree.fromstring(data, parser)

    def relations(self, part: str) -> dict[str, tuple[str, str]]:
        """Kind and target of a part's relations inside the package, by their ids."""
        if part not in self._relations:
            folder, name = posixpath.split(part)
            found: dict[str, tuple[str, str]] = {}
            root = self.root(posixpath.join(folder, "_rels", f"{name}.rels"))
            for relation in children(root, "Relationship"):
                if relation.get("TargetMode", "").lower() == "external":
                    continue
                target = relation.get("Target", "")
                path = target.lstrip("/") if target.startswith("/") else posixpath.join(folder, target)
                found[relation.get("Id", "")] = (relation.get("Type", "").rpartition("/")[2], posixpath.normpath(path))
            self._relations[part] = found
        return self._relations[part]

    def of_kind(self, part: str, kind: str) -> list[str]:
        """The parts of one kind that a part is related to."""
        return [target for found, target in self.relations(part).values() if found == kind and self.has(target)]

    def title(self) -> str:
        """The title in the core properties, empty where it says nothing."""
        for part in self.of_kind("", "core-properties"):
            for element in children(self.root(part), "title"):
                return given_title(element.text or "")
        return ""

    def _main_type(self) -> str:
        for element in children(self.root("[Content_Types].xml"), "Override"):
            if element.get("PartName", "").lstrip("/").lower() == self.main.lower():
                return str(element.get("ContentType", ""))
        return ""


def _parts(package: Package, budget: Budget, skipped: Skipped, inside: bool = False) -> Iterator[str]:
    """Headers, the body with its notes and boxes at their places, footers; each as pieces of Markdown."""
    root = package.root(package.main)
    body = next(iter(children(root, "body")), None)
    if body is None:
        raise UnreadableFileError("damaged", "the document has no body")
    names, hidden = _styles(package)
    notes = {f"{kind}:{number}": note for kind in ("footnote", "endnote") for number, note in _notes(package, kind)}
    headers, footers = _edges(package, body)

    def walk(part: str) -> Walk:
        def related(relation: str) -> str:
            return package.relations(part).get(relation, ("", ""))[1]

        def embedded(relation: str) -> str:
            return _embedded(package, related(relation), budget, skipped, inside)

        def drawn(relation: str) -> Any:
            return package.root(related(relation)) if related(relation) else None

        return Walk(names, hidden, notes, budget, skipped, embedded, drawn)

    shown: set[str] = set()
    for part in headers:
        yield from _once(walk(part), package.root(part), shown)
    yield from walk(package.main).blocks(body)
    for part in footers:
        yield from _once(walk(part), package.root(part), shown)
    skipped["comments"] += sum(
        len(children(package.root(part), "comment")) for part in package.of_kind(package.main, "comments")
    )


def _once(walk: Walk, root: Any, shown: set[str]) -> Iterator[str]:
    """The paragraphs of a header or footer that no earlier one had; page numbers are no text of the document."""
    if root is None:
        return
    for text in walk.blocks(root):
        key = " ".join(text.split())
        if key not in shown and any(c.isalpha() for c in key):
            shown.add(key)
            yield text


def _styles(package: Package) -> tuple[dict[str, str], frozenset[str]]:
    """Names of styles by their ids, and the ids of those that hide their text."""
    names, hides, based = dict[str, str](), dict[str, bool](), dict[str, str]()
    for part in package.of_kind(package.main, "styles"):
        for style in children(package.root(part), "style"):
            key = value(style, "styleId")
            names[key] = value(next(iter(children(style, "name")), None))
            based[key] = value(next(iter(children(style, "basedOn")), None))
            for vanish in (v for p in children(style, "rPr") for v in children(p, "vanish")):
                hides[key] = value(vanish) not in ("0", "false", "off")
    hidden = set()
    for key in names:
        at, seen = key, set[str]()
        while at in based and at not in hides and at not in seen:
            seen.add(at)
            at = based[at]
        if hides.get(at):
            hidden.add(key)
    return names, frozenset(hidden)


def _notes(package: Package, kind: str) -> Iterator[tuple[str, Any]]:
    for part in package.of_kind(package.main, f"{kind}s"):
        for note in children(package.root(part), kind):
            if value(note, "type") in ("", "normal"):  # the others are the lines that separate notes from the text
                yield value(note, "id"), note


def _edges(package: Package, body: Any) -> tuple[list[str], list[str]]:
    """The parts of headers and footers that some section shows, in order."""
    even = any(children(package.root(part), "evenAndOddHeaders") for part in package.of_kind(package.main, "settings"))
    headers: list[str] = []
    footers: list[str] = []
    for section in (e for e in body.iter() if isinstance(e.tag, str) and local(e) == "sectPr"):
        first = any(value(e) not in ("0", "false") for e in children(section, "titlePg"))
        for reference in section:
            if not isinstance(reference.tag, str) or local(reference) not in ("headerReference", "footerReference"):
                continue
            kind = value(reference, "type") or "default"
            if (kind == "first" and not first) or (kind == "even" and not even):
                continue
            part = package.relations(package.main).get(value(reference, "id"), ("", ""))[1]
            into = headers if local(reference) == "headerReference" else footers
            if part and part not in into and package.has(part):
                into.append(part)
    return headers, footers


def _embedded(package: Package, part: str, budget: Budget, skipped: Skipped, inside: bool) -> str:
    """The text of a file that a document has built in (``altChunk``): of web pages, plain text and Word files.

    Args:
        inside: whether the document is built in itself; one in one in one is only counted.
    """
    try:
        with parsing("built-in file", zipfile.BadZipFile, *_errors()):
            return _text_of_embedded(package.read(part), part, budget, skipped, inside)
    except UnreadableFileError as error:  # it costs itself only
        if error.args[0] in ("bomb", "too_much_text", "too_slow"):
            raise
    skipped["embedded"] += 1
    return ""


def _text_of_embedded(data: bytes, part: str, budget: Budget, skipped: Skipped, inside: bool) -> str:
    suffix = posixpath.splitext(part.lower())[1]
    if suffix in (".mht", ".mhtml"):
        data, suffix = _page_of_message(data), ".html"
    if suffix in (".txt", ".text"):
        return page_text(data, budget.limits)[0]
    if suffix in (".html", ".htm", ".xhtml") and data:
        return visible_text(page_text(data, budget.limits)[0], budget, skipped)[1]
    if suffix in (".docx", ".docm", ".dotx") and data and not inside:
        check_package(data, budget.limits)
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return "\n\n".join(_parts(Package(archive), budget, skipped, inside=True))
    raise UnreadableFileError("unsupported_kind", f"a {suffix} file")


def _page_of_message(data: bytes) -> bytes:
    """The page in a web page that was saved as one file (MHTML), in UTF-8; none where there is no page in it."""
    import email
    from email.message import EmailMessage
    from email.policy import default

    for part in email.message_from_bytes(data, policy=default).walk():
        if isinstance(part, EmailMessage) and part.get_content_type() in ("text/html", "text/plain"):
            return str(part.get_content()).encode("utf-8", "surrogatepass")
    return b""


def _errors() -> tuple[type[Exception], ...]:
    from lxml.etree import LxmlError

    return (LxmlError,)
