"""A model that writes from quoted evidence, and what of that may be said: nothing that the evidence does not say.

The model reads the question and a few numbered sentences of the passages, and writes statements, each with the number
of its evidence behind it: ``The library was built in 1911. [1]``. A statement leaves only when it is whole and checked
(``faithful``): one that its evidence does not bear out is replaced by the quotation, one without evidence is dropped.
Whatever the model writes, no number and no name gets out that does not stand in the passage cited.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cluster.core.records import Answer
from cluster.core.sections.answer import AnswerSection
from data_jobs.retrieval.results import Retrieval, ScoredSentence
from data_jobs.text.units import SENTENCE
from train_jobs.answering.abstention import Support, support
from train_jobs.answering.chat import NOT_KNOWN, REFUSAL, as_text, templated
from train_jobs.answering.citations import quotation
from train_jobs.answering.draft import Draft
from train_jobs.answering.faithful import faithful
from train_jobs.answering.forms.refusal import UNKNOWN
from train_jobs.answering.pointed import quote_sentence
from train_jobs.answering.prompt import candidates
from train_jobs.answering.quote import LEANING
from train_jobs.answering.select import is_code

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FORMAT = "grounded"  # in a model's plinth.json
MOST_EVIDENCE, EVIDENCE_WORDS, QUESTION_WORDS = 4, 45, 60
WHOLE = 10_000  # words: no sentence has so many
MOST_STATEMENTS = 3
NEW_TOKENS = 96  # of one answer
INSTRUCTION = (
    "Answer the question from the numbered evidence only, and write the number behind each sentence, like [1]. If the "
    f"evidence does not answer it, write only: {NOT_KNOWN}"
)
_NUMBERS = r"(?:\s*\[\d{1,3}(?:\s*,\s*\d{1,3})*\])+"
_STATEMENT = re.compile(rf"(?P<said>.*?)(?P<numbers>{_NUMBERS})(?P<end>\s*[.!?]*)", re.DOTALL)
_MORE_NUMBERS = re.compile(r"\s*(?:\[[\d,\s]*)?\Z")
_QUOTES = re.compile('["“”„«»]')
_MARKER = re.compile(r"\[(\d{1,3}(?:\s*,\s*\d{1,3})*)\]")


@dataclass(frozen=True)
class Evidence:
    """One quoted sentence, in one line without markers of its own, under what it stands under."""

    heading: str
    text: str

    @classmethod
    def of(cls, heading: str, text: str) -> Evidence:
        """The evidence of a sentence as the document has it."""
        return cls(_plain(heading), _plain(text))

    @property
    def shown(self) -> str:
        """What the model reads of it: of a long sentence the beginning."""
        return f"{self.heading}: {' '.join(self.text.split()[:EVIDENCE_WORDS])}"


@dataclass(frozen=True)
class Statement:
    """What may be said of one piece of evidence (its place, from 0): the model's own ``text``, or, where that is empty,
    the quotation."""

    evidence: int
    text: str


def evidence_of(retrieval: Retrieval) -> tuple[list[Evidence], list[ScoredSentence]]:
    """The evidence that a model reads of a result, and the sentences that it quotes, the likeliest first."""
    chosen = [one.sentence for one in candidates(retrieval.unread())[:MOST_EVIDENCE]]
    found = []
    for sentence in chosen:
        passage = retrieval.passages[sentence.passage]
        quote = quotation(retrieval.passages, sentence.passage, sentence.start, sentence.end, WHOLE)
        text = quote.shown(retrieval.passages) if quote else sentence.text
        found.append(Evidence.of(passage.document if is_code(passage) else passage.title or passage.document, text))
    return found, chosen


def user_message(question: str, evidence: Sequence[Evidence]) -> str:
    """What the model is asked."""
    numbered = "\n".join(f"[{n}] {one.shown}" for n, one in enumerate(evidence, 1))
    return f"{numbered}\n\nQuestion: {' '.join(_plain(question).split()[:QUESTION_WORDS])}"


def prompt_of(question: str, evidence: Sequence[Evidence], tokenizer: PreTrainedTokenizerBase) -> str:
    """The whole prompt, in which nothing but the model's own chat template is a control token."""
    return templated(tokenizer, as_text(tokenizer)(user_message(question, evidence)), INSTRUCTION)


class Statements:
    """What a model writes about numbered evidence, statement by statement, each checked when it is whole.

    What comes out does not depend on how the text was cut into pieces.

    Attributes:
        refused: the model said that it does not know.
        own, replaced, dropped: how many statements were the model's own, gave way to the quotation, or were left out.
    """

    def __init__(self, evidence: Sequence[Evidence]) -> None:
        self._evidence, self._open = evidence, ""
        self._said: set[int] = set()
        self.refused = False
        self.own = self.replaced = self.dropped = 0

    @property
    def done(self) -> bool:
        """Whether nothing that follows would be said any more."""
        return self.refused or self.own + self.replaced + self.dropped >= MOST_STATEMENTS

    def feed(self, text: str, final: bool = False) -> list[Statement]:
        """Take more text; returns what may be said now. With ``final`` nothing follows."""
        self._open += text
        found = []
        while not self.done and (match := _STATEMENT.match(self._open)):
            rest = self._open[match.end() :]
            if not final and _MORE_NUMBERS.match(rest):
                break  # another number, or a stop, may still belong to it
            self._open = rest
            if (made := self._judged(match["said"], match["numbers"], match["end"].strip())) is not None:
                found.append(made)
        if final and not self.done and self._open.strip():
            self.refused = REFUSAL.match(self._open.strip()) is not None
            self.dropped += not self.refused  # broken off, or without evidence
        return found

    def _judged(self, said: str, numbers: str, end: str) -> Statement | None:
        text = " ".join(_QUOTES.sub("", said).split())  # nothing of its own poses as a quotation
        if REFUSAL.match(text):
            self.refused = True
            return None
        cited = [int(n) - 1 for group in _MARKER.findall(numbers) for n in group.split(",")]
        cited = [place for place in dict.fromkeys(cited) if 0 <= place < len(self._evidence)]
        fresh = [place for place in cited if place not in self._said]
        if not fresh:
            self.dropped += bool(text)
            return None
        if not text:  # a number alone says that this sentence answers
            return self._quoted(fresh[0])
        text = text if text[-1] in ".!?…" else text + (end[:1] or ".")
        for place in fresh:
            one = self._evidence[place]
            if not LEANING.match(text) and faithful(text, one.text, one.heading):
                self.own += 1
                self._said.add(place)
                return Statement(place, text)
        return self._quoted(fresh[0])

    def _quoted(self, place: int) -> Statement:
        self.replaced += 1
        self._said.add(place)
        return Statement(place, "")


class GroundedAnswer:
    """The answer to one question as a model writes it: ask the model the ``prompt``, feed it what the model writes, say
    what it returns, and end with ``answer``."""

    def __init__(self, question: str, retrieval: Retrieval, section: AnswerSection) -> None:
        self._evidence, self._sentences = evidence_of(retrieval)
        self._question, self._found = question, retrieval
        self._verdict: Support = support(question, retrieval, section.min_confidence)
        self._draft = Draft(retrieval, section.max_words, section.max_names, section.max_citations)
        self._statements = Statements(())
        self._released = 0

    def prompt(
        self, tokenizer: PreTrainedTokenizerBase, encode: Callable[[str], list[int]], room_tokens: int
    ) -> list[int]:
        """The ids of what to ask, with as much evidence as has room, the likeliest first; empty where no model need be
        asked: the passages support no answer, or there is no evidence to show."""
        if not self._verdict.grounded:
            return []
        for most in range(len(self._evidence), 0, -1):
            shown = self._evidence[:most]
            ids = encode(prompt_of(self._question, shown, tokenizer))
            if len(ids) <= room_tokens:
                self._statements = Statements(shown)
                return ids
        return []

    @property
    def done(self) -> bool:
        """Whether nothing that the model may go on to write would be said."""
        return self._statements.done

    def feed(self, text: str, final: bool = False) -> str:
        """Take more of what the model writes; returns the text that may be said now."""
        for statement in self._statements.feed(text, final):
            self._add(statement)
        said = self._draft.text()
        new, self._released = said[self._released :], len(said)
        return new

    def answer(self) -> Answer:
        """The whole answer, after the last ``feed``; a refusal where nothing was said."""
        confidence = self._verdict.probability
        if self._draft.pieces:
            return Answer(self._draft.text(), self._draft.citations(), True, "supported", confidence)
        if not self._verdict.grounded:
            reason = self._verdict.reason
        elif self._statements.refused:
            reason = "model_abstained"
        else:
            reason = "uncited" if self._statements.dropped else "nothing_quotable"
        return Answer(UNKNOWN, grounded=False, reason=reason, confidence=confidence)

    def _add(self, statement: Statement) -> bool:
        sentence = self._sentences[statement.evidence]
        if not statement.text or sentence.kind != SENTENCE:  # rows and code are shown as they stand
            return quote_sentence(self._draft, self._question, sentence)
        passage = self._found.passages[sentence.passage]
        unnamed = is_code(passage) and passage.document.casefold() not in statement.text.casefold()
        lead = f"{passage.document} — " if unnamed else ""
        piece = f"{lead}{statement.text} [{self._draft.marker(sentence.passage)}]"
        return self._draft.add(piece, sentence.passage, {passage.document})


def _plain(text: str) -> str:
    """A text in one line, without anything that looks like the number of evidence."""
    return " ".join(_MARKER.sub(r"(\1)", text).split())
