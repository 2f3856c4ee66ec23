"""An answer of the quote tier while it is being written: its pieces, what they cite, and what may still be spent."""

from __future__ import annotations

from dataclasses import dataclass, field

from cluster.core.records import Citation
from data_jobs.retrieval.results import Retrieval
from train_jobs.answering.citations import cite, unmarked
from train_jobs.answering.whole import words

WHOLE_FACTOR = 3  # a row or code block that opens the answer may be this many times as long as other answers


@dataclass
class Draft:
    """An answer being written: pieces of text, what each cites, and the words, names and citations still to spend."""

    found: Retrieval
    words_left: int
    names_left: int
    max_citations: int
    first: int | None = None  # markers that earlier parts of the same answer took; None: there are no other parts
    pieces: list[str] = field(default_factory=list)
    used: list[int] = field(default_factory=list)  # passages, in the order of their markers
    named: set[str] = field(default_factory=set)

    def marker(self, passage: int) -> int:
        """The number, from 1, that cites a passage: its own where it is cited already, else the next free one."""
        return (self.first or 0) + (self.used.index(passage) if passage in self.used else len(self.used)) + 1

    def add(self, piece: str, passage: int, names: set[str]) -> bool:
        """Append a piece if its words and names can be afforded."""
        fresh = names - self.named
        if len(piece.split()) > self.words_left or len(fresh) > self.names_left:
            return False
        if passage not in self.used and len(self.used) == self.max_citations:
            return False
        self.pieces.append(piece)
        self.words_left -= len(piece.split())
        self.names_left -= len(fresh)
        self.named |= fresh
        if passage not in self.used:
            self.used.append(passage)
        return True

    @property
    def whole_words(self) -> int:
        """Words that a row or code block may have where it opens the answer: cut, it would say something else."""
        return 0 if self.pieces else WHOLE_FACTOR * self.words_left

    def add_whole(self, lead: str, body: str, passage: int) -> bool:
        """Append lines that are not cut, below a lead of one line, if they can be afforded."""
        size = words(body) + len(lead.split())
        names = {self.found.passages[passage].document}
        if size > max(self.words_left, self.whole_words):
            return False
        if not self.add("", passage, names):
            return False
        self.pieces[-1] = f"{lead}\n\n{unmarked(body)}"
        self.words_left -= size
        return True

    def text(self) -> str:
        """The answer so far: the pieces one after the other, with a space between them, or a blank line where one of
        them is more than a line."""
        said, before = "", ""
        for piece in self.pieces:
            said += ("\n\n" if "\n" in before + piece else " ") + piece
            before = piece
        return said.lstrip()

    def citations(self) -> tuple[Citation, ...]:
        """What was used, in marker order, then the passages a reader may want next, as the search ranked them; of a
        part of an answer only the first."""
        if self.first is not None:
            return tuple(cite(self.found.passages[index]) for index in self.used)
        rest = [index for index in range(len(self.found.passages)) if index not in self.used]
        return tuple(cite(self.found.passages[index]) for index in (self.used + rest)[: self.max_citations])
