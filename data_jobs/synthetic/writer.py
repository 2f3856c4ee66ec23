"""Questions that a document answers, made from its own sentences by rules: training and gate questions for any corpus.

No language model writes them. A question is made from one sentence, its *gold sentence*, in several manners: how and
what questions by the sentence's form, keywords as people type them (the rare ones, some left out, reordered or
replaced by a synonym), questions for the title, and the document's own questions where it has any, which are the best
of all: people wrote them. Rules make plainer questions than people do; words are dropped and replaced so that not
every one is won by matching words.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cluster.core.records import CODE_KINDS, Document
from data_jobs.retrieval.analysis import STOPWORDS, stem
from data_jobs.retrieval.synonyms import thesaurus_lines
from data_jobs.retrieval.wording import is_stop_word, text_stems
from data_jobs.text.chunks import readable_name
from data_jobs.text.sentences import sentences, unreadable

MANNERS = ("own", "how", "what", "keywords", "title")
# A sentence with at least this reading penalty is not taken as a summary; the quote tier draws the line there, too.
UNREADABLE = 0.2
WORDS = (5, 45)  # A question is made from a sentence with at least and at most so many words.
MIN_CONTENT = 3
CLAUSE_WORDS = 11
REPLACED, DROPPED = 0.3, 0.15  # chance that a content word is replaced by a synonym, or left out
# Code, tables, markup and call signatures: nothing that a question would be made from.
_NO_PROSE = re.compile(r"-->|=>|[{}|;=]|[ \t]{3,}\S|^\W*[\w.]+\(|^\W*\.\.? |\n\s*>>>")
_LINK = re.compile(r"\]\([^)]*\)|\]\[[^\]]*\]|https?://\S+")
_LEANING = re.compile(r"\W*(?:it|its|they|their|these|this|those|that|he|his|she|her|such|there|see|note)\b", re.I)
_WORD = re.compile(r"[A-Za-z][\w'-]*(?:\.\w+)*")
_CLAUSE_END = re.compile(r"[,;:()\[\]{}]|\.\s|\s[-–—]+\s|\b(?:if|when|where|which|because|unless|while|so that)\b")
_CAN = re.compile(r"\b[Yy]ou (?:can|may|must|should|need to|have to)(?: also| then| now)? ([a-z]+ .+)")
_TO = re.compile(r"^(?:In order )?[Tt]o ([a-z]+ [^,]{8,80}), ")
_LETS = re.compile(r"\b(?:allows?|lets?|enables?|helps?) (?:you|users?|us|one)? ?(?:to )?([a-z]+ .+)")
_IS = re.compile(r"^(?:An? |The )?((?:[\w`'.-]+ ){0,3}[\w`'.-]+) (?:is|are|means|refers to|represents?|describes?) ")
_DOES = re.compile(r"^(?:An? |The )?((?:[\w`'.-]+ ){0,2}[\w`'.-]+) (?:\w+(?<![s ])s) ")
_WHEN = re.compile(r"\b(?:[Ii]f|[Ww]hen) ([^,.]{12,80})[,.]")
# Verbs with which a summary of code or an instruction begins. Not a list of topics: what anything can do.
_VERBS = frozenset(
    """accept acquire activate add adjust allocate allow append apply assert assign attach begin bind block break build
    calculate call cancel capture cast change check choose clean clear clone close collect combine compare compile
    complete compose compress compute configure connect construct consume convert copy count create customize cut debug
    decode decompress decrement decrypt define delete deliver deploy describe destroy detach detect determine disable
    discard disconnect display divide download draw drop dump emit enable encode encrypt end enter ensure erase escape
    establish evaluate examine exchange execute exit expand explain export express extend extract fetch fill filter
    find finish fix flush fold force format forward free freeze generate get give grab group guess handle hash hide
    identify ignore implement import include increase increment indicate initialize insert inspect install instrument
    interrupt invert invoke iterate join keep kill launch learn leave limit link list listen load locate lock log look
    lower make manage map mark match measure merge migrate mirror modify monitor mount move multiply normalize notify
    obtain offer open order pack parse pass pause perform permit pick play poll pop prepare prevent print process
    produce propagate protect provide pull push put query quote raise reach read receive record recover redirect reduce
    refer refresh register release reload remove rename render repeat replace report represent request require reset
    resize resolve restore restrict resume retrieve return reverse rotate round run sample save scan schedule search
    seek select send separate serialize serve set share shift show shuffle shut signal simplify skip sleep sort specify
    split start stop store stream strip submit subscribe subtract suppress suspend swap switch synchronize take
    terminate test toggle trace track transfer transform translate transmit traverse trim truncate try turn undo unlock
    unpack unregister unset update upgrade upload use validate verify view visit wait walk warn watch wrap write
    yield""".split()  # noqa: SIM905
)
_PLAIN_VERBS = {
    "return": ("get", "find", "get back", "return"),
    "construct": ("make", "create"),
    "retrieve": ("get", "fetch"),
    "determine": ("find out", "tell"),
    "compute": ("calculate", "work out"),
    "remove": ("remove", "delete"),
    "create": ("create", "make"),
}
_HOW = ("How do I {}?", "How can I {}?", "how to {}", "What is the way to {}?", "I want to {}", "Is there a way to {}?")
_KEYWORDS = ("{}", "{}?", "how to {}", "{} how", "{} example", "how does {} work?")
_TITLES = ("What does {} do?", "What is {}?", "what is {} for", "{}", "tell me about {}")


@dataclass(frozen=True)
class Asked:
    """A question and what answers it: ``document.text[start:end] == sentence``; ``manner`` is one of ``MANNERS``."""

    document: str
    question: str
    start: int
    end: int
    sentence: str
    manner: str


class Synonyms:
    """Other surface words for a word, from a thesaurus in the format of ``data_jobs.retrieval.synonyms``."""

    def __init__(self, lines: Sequence[str]) -> None:
        self._others: dict[str, list[str]] = {}
        for line in lines:
            words = [part.strip() for part in line.partition("#")[0].split(",") if part.strip()]
            for word in words:
                if " " not in word:
                    self._others.setdefault(stem(word.lower()), []).extend(w for w in words if w != word)

    @classmethod
    def named(cls, name: str) -> Synonyms:
        """The thesaurus the lexical search uses (``retrieval.synonyms``); an empty name knows no synonyms."""
        return cls(thesaurus_lines(name))

    def of(self, word: str) -> list[str]:
        """Other words for a word, whatever its form; none where none is known."""
        return self._others.get(stem(word.lower()), [])


class Writer:
    """Makes questions about documents.

    Args:
        weight: idf of an index term: rare words make the better keywords.
        synonyms: for replacing words.
        picker: chooses among what the rules allow; seed it for reproducible questions.
        plain: keep the sentence's own words, none replaced or left out: for people to read rather than to train on.
    """

    def __init__(
        self, weight: Callable[[str], float], synonyms: Synonyms, picker: random.Random, plain: bool = False
    ) -> None:
        self._weight, self._synonyms, self._picker, self._plain = weight, synonyms, picker, plain

    def questions(self, document: Document, most: int, own: Sequence[str] | None = None) -> list[Asked]:
        """Up to ``most`` different questions that the document answers, its own ones first; none where it holds no
        sentence that reads as one.

        Args:
            own: which of the document's own questions to use (default: all).
        """
        good = good_sentences(document)
        if not good:
            return []
        found: dict[str, Asked] = {}

        def add(question: str | None, sentence: tuple[int, int], manner: str) -> None:
            text = " ".join((question or "").split())
            if len(text_stems(text)) >= 1 and len(text) >= 8 and text.lower() not in found:
                body = document.text[sentence[0] : sentence[1]]
                found[text.lower()] = Asked(document.id, text, *sentence, body, manner)

        for question in document.questions if own is None else own:
            add(question, good[0], "own")
        attempts = 0
        while len(found) < most and attempts < 3 * most:
            # The first sentence says what a document is about, above all of code; every other is asked for as well.
            summary = attempts == 0 or self._picker.random() < (0.5 if document.kind in CODE_KINDS else 0.15)
            sentence = good[0] if summary else self._picker.choice(good)
            made = self._one(document, sentence, summary)
            add(made[0], sentence, made[1])
            attempts += 1
        return list(found.values())[:most]

    def _one(self, document: Document, span: tuple[int, int], summary: bool) -> tuple[str | None, str]:
        text = _LINK.sub("", document.text[span[0] : span[1]]).replace("[", "").replace("*", "")
        luck = self._picker.random()
        if summary and luck < 0.08:
            return self._title(document), "title"
        if luck < 0.55:
            made = self._how(text)
            if made:
                return made, "how"
            made = self._what(text)
            if made:
                return made, "what"
        return self._keywords(document, text), "keywords"

    # -- manners --------------------------------------------------------------------------------------------------
    def _how(self, text: str) -> str | None:
        """``Copy a file ...`` -> "How do I copy a file?"; also "You can ...", "To ..., ..." and "... lets you ..."."""
        first, _, rest = text.partition(" ")
        verb = base_verb(first)
        if verb is None:
            match = _TO.search(text) or _CAN.search(text) or _LETS.search(text)
            if not match:
                return None
            first, _, rest = match.group(1).partition(" ")
            verb = base_verb(first)
            if verb is None:
                return None
        clause = self._reworded(_clause(rest))
        if len(text_stems(clause)) < 2:
            return None
        return self._picker.choice(_HOW).format(f"{self._picker.choice(_PLAIN_VERBS.get(verb, (verb,)))} {clause}")

    def _what(self, text: str) -> str | None:
        match = _WHEN.search(text)
        if match and self._picker.random() < 0.5:
            return f"What happens {self._picker.choice(('if', 'when'))} {self._reworded(match.group(1))}?"
        match = _IS.search(text)
        if match and not _LEANING.match(text) and not is_stop_word(match.group(1)):
            rest = _clause(text[match.end() :])
            if self._picker.random() < 0.5 and len(text_stems(rest)) >= 2:
                return f"What is {self._reworded(rest)}?"
            return f"What is {match.group(1)}?" if len(text_stems(match.group(1))) >= 2 else None
        match = _DOES.search(text)
        if match and not _LEANING.match(text) and len(text_stems(match.group(1))) >= 1:
            rest = _clause(text[match.end(1) :])
            return f"What {self._reworded(rest)}?" if len(text_stems(rest)) >= 3 else None
        return None

    def _keywords(self, document: Document, text: str) -> str | None:
        words = [w for w in dict.fromkeys(_WORD.findall(text)) if not is_stop_word(w) and len(w) > 1]
        if len(words) < MIN_CONTENT:
            return None
        wanted = min(len(words), self._picker.randint(3, 6))
        # Rare words are likelier, never certain: rank by weight with noise.
        noisy = {w: self._weight(stem(w.lower())) * self._picker.uniform(0.5, 1.0) for w in words}
        kept = set(sorted(words, key=lambda w: -noisy[w])[:wanted])
        chosen = [self._other(w) if self._picker.random() < REPLACED else w for w in words if w in kept]
        if self._picker.random() < 0.4:
            self._picker.shuffle(chosen)
        topic = [w for w in _WORD.findall(document.title) if not is_stop_word(w)]
        if document.kind not in CODE_KINDS and topic and self._picker.random() < 0.4:
            chosen.append(self._picker.choice(topic))
        return self._picker.choice(_KEYWORDS).format(" ".join(chosen).lower())

    def _title(self, document: Document) -> str | None:
        name = document.title
        if document.kind in CODE_KINDS:
            name = self._picker.choice((document.id, readable_name(document.id), document.id.rpartition(".")[2]))
        return self._picker.choice(_TITLES).format(name) if 0 < len(name.split()) <= 10 else None

    # -- words ----------------------------------------------------------------------------------------------------
    def _reworded(self, clause: str) -> str:
        """Some content words replaced by a synonym, some left out (never all)."""
        if self._plain:
            return clause
        kept = []
        for word in clause.split():
            if not is_stop_word(word):
                luck = self._picker.random()
                if luck < DROPPED:
                    continue
                if luck < DROPPED + REPLACED:
                    word = self._other(word)
            kept.append(word)
        return " ".join(kept)

    def _other(self, word: str) -> str:
        others = self._synonyms.of(word.strip(".,;:"))
        return self._picker.choice(others) if others else word


def base_verb(word: str) -> str | None:
    """The base form of a verb that begins an instruction or a summary: ``Returns`` -> ``return``; None for other
    words."""
    low = word.lower()
    for form in (low, low.removesuffix("s"), low.removesuffix("es"), re.sub("ies$", "y", low)):
        if form in _VERBS:
            return form
    return None


def summary_sentence(document: Document) -> tuple[int, int] | None:
    """The span of the first sentence that reads as one: what answers "what is this", and a document's own questions."""
    good = good_sentences(document)
    return good[0] if good else None


def good_sentences(document: Document) -> list[tuple[int, int]]:
    """Spans of sentences that a question can be made from, in order. Those of prose must stand on their own."""
    code = document.kind in CODE_KINDS
    found: list[tuple[int, int]] = []
    for start, end in sentences(document.text):
        text = document.text[start:end]
        words = len(text.split())
        if _NO_PROSE.search(text) or sum(w.isalpha() for w in _WORD.findall(text)) < 0.7 * words:
            continue
        if not (3 if code and not found else WORDS[0]) <= words <= WORDS[1] or unreadable(text) >= UNREADABLE:
            continue
        if (found or not code) and (text.rstrip()[-1:] in ":?" or _LEANING.match(text)):
            continue
        if sum(w.lower() not in STOPWORDS for w in _WORD.findall(text)) < (2 if code and not found else MIN_CONTENT):
            continue
        found.append((start, end))
    return found


def _clause(text: str) -> str:
    """The first clause of a text, in few words."""
    match = _CLAUSE_END.search(text, 8)
    return " ".join((text[: match.start()] if match else text).split()[:CLAUSE_WORDS]).rstrip(" .,;:!?")
