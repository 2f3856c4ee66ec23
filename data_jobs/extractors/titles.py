"""What a document is called: by its header or its properties, else by its first top heading, never by a section.

"Abstract" and "Summary" head a section of nearly every document of some kinds; as a title they say nothing.
"""

from __future__ import annotations

import re

from data_jobs.extractors.protocol import MAX_TITLE_CHARS
from data_jobs.text.blocks import HEADING, UNMARKED, blocks, title_field

LINES = 400  # how far into a text its heading is looked for
MEMO_LINES, MIN_INDENT, MIDDLE = 40, 8, (28, 44)  # columns between which the middle of a centred line lies
_NUMBER = re.compile(r"(?:\d+(?:\.\d+)*[.):]?|[IVX]+\.|§\s*\d+)\s+")
_SECTIONS = frozenset(
    """abstract|acknowledgements|acknowledgments|background|changelog|contents|description|disclaimer|foreword|intro
    |introduction|motivation|notes|notice|overview|preamble|preface|purpose|rationale|references|scope|status|summary|synopsis
    |executive summary|table of contents|toc|status of this memo|copyright notice|tl;dr|abstrakt|einleitung|einführung
    |inhalt|inhaltsverzeichnis|kurzfassung|übersicht|vorwort|zusammenfassung|avant-propos|introducción|prólogo|resumen
    |índice|préface|résumé|sommaire|table des matières|indice|introduzione|prefazione|riassunto|sommario|introdução
    |resumo|sumário|inleiding|inhoud|samenvatting|sammanfattning|inledning|streszczenie|wstęp|содержание|введение|аннотация
    |摘要|目录|前言|概要|はじめに|目次|要約|개요|목차|소개""".replace("\n", "")
    .replace("    ", "")
    .split("|")
)
_MARKUP = (
    (re.compile(r"[ \t]*\{[ \t]*[#.][^{}]*\}$"), ""),
    (re.compile(r"<(?:img|br|/?(?:a|b|i|em|strong|code|kbd|span|sub|sup|font))\b[^<>]{0,500}>", re.I), ""),
    (re.compile(r"!\[[^\[\]]{0,200}\]\([^()\s]{0,1000}\)"), ""),
    (re.compile(r"\[([^\[\]]{1,200})\]\([^()\s]{0,1000}\)"), r"\1"),
    (re.compile(r"(?<![*\w])(\*{1,3})(?=[^\s*])([^*]{1,200})(?<=[^\s*])\1(?![*\w])"), r"\2"),
    (re.compile(r"(?<!`)`([^`]{1,200})`(?!`)"), r"\1"),
)
# What programs call a document that nobody gave a title.
_DEFAULTS = re.compile(
    r"(?:untitled|unbenannt|sans titre|sin título|(?:word[ -]?)?document|dokument|presentation|präsentation|powerpoint"
    r"[ -]presentation|slide|book|sheet|page|index|home|new page|title|no title|none|null|default|template|normal)"
    r"(?:[ _-]?(?:page|template|dot|dotm))?[ _-]?\d*(?:\.\w{2,5})?\Z"
    r"|microsoft (?:word|powerpoint|excel) - .*|.*\.(?:docx?|dotx?|rtf|odt|pdf|indd|tex|dvi|qxd|fm|pptx?|xlsx?)\Z",
    re.I,
)


def given_title(title: str) -> str:
    """A title out of a document's properties, on one line; empty where a program made it up."""
    plain = " ".join(title.split())
    return "" if _DEFAULTS.match(plain) or not any(c.isalnum() for c in plain) else plain


def text_title(text: str, plain: bool = False) -> str:
    """The title a text gives itself: its header's (``Title: ...``), else its top heading's; empty without either.

    Args:
        plain: whether it is plain text, in which a line with a ``#`` is no heading, but a centred one may be.
    """
    return title_field(text) or top_heading(text, plain) or (_centred(text) if plain else "")


def top_heading(text: str, plain: bool = False) -> str:
    """The first heading of the highest level among a text's first lines; empty without one, and where it is a section's
    ("Abstract"): then its document has no title there."""
    best, title = 99, ""
    marks: list[str] = []
    for block in blocks("\n".join(text.split("\n", LINES)[:LINES]), opens=False):
        if block.kind != HEADING or len(block.title) > MAX_TITLE_CHARS or block.mark == UNMARKED:
            continue
        if plain and not block.mark:
            continue
        if block.mark and block.mark not in marks:
            marks.append(block.mark)
        level = block.level or marks.index(block.mark) + 1
        if level < best:
            best, title = level, _without_markup(block.title)
    return "" if is_section(title) else title


def _without_markup(heading: str) -> str:
    """A heading's words as they are shown: no attributes, pictures, targets of links, marks of emphasis and code."""
    for pattern, by in _MARKUP:
        heading = pattern.sub(by, heading)
    return heading.strip()


def _centred(text: str) -> str:
    """The title of a memo or RFC: the first centred paragraph, below a head that begins at the left."""
    lines: list[str] = []
    head = False
    for line in text.split("\n", MEMO_LINES)[:MEMO_LINES]:
        body = line.strip()
        indent = len(line) - len(line.lstrip(" "))
        if not body and lines:
            break
        if body and indent >= MIN_INDENT and MIDDLE[0] <= indent + len(body) / 2 <= MIDDLE[1]:
            lines.append(body)
        elif body:
            head, lines = True, []
    return " ".join(lines) if head and lines and len(lines) <= 3 and not lines[-1].endswith(".") else ""


def is_section(heading: str) -> bool:
    """Whether a heading is one that sections of many documents have, rather than a title."""
    return _NUMBER.sub("", heading.strip(), count=1).strip(" .:*_").lower() in _SECTIONS
