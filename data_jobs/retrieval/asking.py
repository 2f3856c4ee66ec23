"""What form of answer a question asks for, told by its wording alone: closed classes of English words, no topics.

``form_of`` is read by the search (a comparison is searched side by side, a list and a summary come from the index's
structure) and by the answer. What is not recognised is PLAIN, and answered as any question is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from data_jobs.retrieval.leaning import leans_on_before
from data_jobs.retrieval.wording import is_stop_word

PLAIN, COMPARISON, YES_NO, DEFINITION = "plain", "comparison", "yes_no", "definition"
LIST, STEPS, SUMMARY, SIGNATURE, TWO = "list", "steps", "summary", "signature", "two_questions"
FORMS = (PLAIN, COMPARISON, YES_NO, DEFINITION, LIST, STEPS, SUMMARY, SIGNATURE, TWO)

MAX_CHARS = 400  # a longer message tells something; what form its question has is not guessed
MAX_QUESTIONS = 3
LEAST_WORDS = 3  # of a question of its own
_ARTICLE = r"(?:an?\s+|the\s+)?"
_POLITE = re.compile(
    r"^\W*(?:(?:please|hi|hello|hey|so|well|ok(?:ay)?)\b[,!]?\s+)*"
    r"(?:(?:(?:can|could|would|will) you|please|i(?:'d| would) like(?: you)? to know|do you know|tell me"
    r"|explain(?: to me)?)\s+)*(?:please\s+)?",
    re.IGNORECASE,
)
_COMPARED = (
    re.compile(
        r"(?:what(?:'s|\s+is|\s+are)?\s+)?(?:the\s+)?(?:main\s+|key\s+)?(?:differences?|distinction)\s+between\s+(.+?)\s+and\s+(.+)",
        re.I,
    ),
    re.compile(r"compar(?:e|ing|ison (?:of|between))\s+(.+?)\s+(?:and|with|to|against|versus|vs\.?)\s+(.+)", re.I),
    re.compile(r"how\s+(?:is|are|do(?:es)?)\s+(.+?)\s+(?:differ(?:ent)?|compare[sd]?)\s+(?:from|to|with)\s+(.+)", re.I),
    re.compile(r"how\s+do\s+(.+?)\s+and\s+(.+?)\s+(?:differ|compare)", re.I),
    re.compile(r"(?:which|what)\b[^,:]*[,:]\s*(.+?)\s+or\s+(.+)", re.I),
    re.compile(r"(?:should i (?:use|take|choose|pick)\s+)(.+?)\s+or\s+(.+)", re.I),
    re.compile(r"(.{2,60}?)\s+(?:vs\.?|versus|compared (?:to|with))\s+(.{2,60})", re.I),
)
_NOT_A_SIDE = re.compile(r"\b(?:how|what|which|when|why|where|who|is|are|was|were|do|does|did|can|should)\b", re.I)
MAX_SIDE_WORDS = 6
# Of "A and B and C", and of "A and B with C", words alone do not tell where one side ends.
_JOINED = re.compile(r"\s(?:and|with|to|against|versus|vs\.?)\s", re.I)
_SUMMARY = re.compile(
    rf"(?:summari[sz]e|sum up|(?:give (?:me )?)?{_ARTICLE}(?:short\s+|brief\s+|quick\s+)?"
    rf"(?:summary|overview|outline|gist|tl;?dr)\s+(?:of|on|for|about))\s+{_ARTICLE}(.+)"
    rf"|what(?:'s|\s+is)\s+{_ARTICLE}(.+?)\s+(?:all\s+)?about"
    rf"|what\s+(?:does|is\s+in)\s+{_ARTICLE}(.+?(?:\s+(?:document|file|page|guide|manual|handbook|policy|module|chapter)))\s*"
    rf"(?:contain|cover|say|describe)?",
    re.IGNORECASE,
)
_PART = (
    r"(functions?|methods?|class(?:es)?|members?|attributes?|sub-?modules?|builtins?"
    r"|sections?|chapters?|headings?|parts?|topics?|documents?|pages?|files?)"
)
_LISTED = (
    re.compile(
        rf"(?:which|what)\s+(?:are\s+(?:all\s+)?)?(?:the\s+)?(?:\w+\s+)?{_PART}\s+(?:does|do|are|is)\s+(?:there\s+)?(?:in\s+|of\s+)?{_ARTICLE}(.+?)"
        r"(?:\s+(?:have|has|contain|offer|provide|define|include|consist of|made of|there))?",
        re.I,
    ),
    re.compile(rf"(?:which|what)\s+{_PART}\s+(?:belong\s+to|exist\s+(?:in|for)|has|have)\s+{_ARTICLE}(.+)", re.I),
    re.compile(
        r"(?:list|name|show|enumerate|give)(?:\s+me)?\s+(?:all\s+)?(?:of\s+)?(?:the\s+)?"
        rf"{_PART}\s+(?:of|in|from|for|that)\s+{_ARTICLE}(.+)",
        re.I,
    ),
    re.compile(rf"what\s+are\s+(?:all\s+)?(?:the\s+)?{_PART}\s+(?:of|in|from|for)\s+{_ARTICLE}(.+)", re.I),
    re.compile(rf"how\s+is\s+{_ARTICLE}(.+?)\s+(structured|organi[sz]ed|divided)", re.I),
)
# "Which formats are supported?": a list in a text, not one of the index's structure.
_LIST_IN_TEXT = re.compile(
    r"(?:(?:which|what)\s+(?:are\s+(?:the\s+)?)?(?:[\w-]+\s+){0,2}[\w-]{3,}s\b(?!\s+(?:the|an?)\b)"
    r"|(?:list|name|enumerate)\s)",
    re.I,
)
_SINGULAR = re.compile(r"(?:which|what)\s+(?:is|was|does|has|this)\b", re.I)
_STEPS = re.compile(
    r"(?:what\s+are\s+)?(?:the\s+)?(?:steps?|procedure|instructions?|process)\b"
    r"|how\s+(?:do|can|should|would|could|to|must|does)\b",
    re.I,
)
_YES_NO = re.compile(
    r"(?:is|are|was|were|do|does|did|can|could|may|must|should|shall|will|would|has|have|am|need)"
    r"\s+(?!you\s+(?:tell|explain|show|give|list))",
    re.IGNORECASE,
)
_DEFINED = re.compile(
    rf"(?:what(?:'s|\s+is|\s+are|\s+was|\s+were)\s+(?:meant\s+by\s+)?{_ARTICLE}|define\s+{_ARTICLE}|definition\s+of\s+{_ARTICLE}"
    rf"|explain\s+{_ARTICLE}|what\s+does\s+{_ARTICLE})((?:[\w.()+#/-]+\s+){{0,3}}?[\w.()+#/-]+?)"
    r"(?:\s+(?:mean|stand\s+for|do))?",
    re.IGNORECASE,
)
_SIGNATURE = re.compile(
    r"(?:what(?:'s|\s+is|\s+are)\s+)?(?:the\s+)?(?:signature|parameters?|arguments?|args|call signature)"
    rf"\s+(?:of|for|to)\s+{_ARTICLE}(.+)"
    rf"|(?:what|which)\s+(?:parameters?|arguments?|args|options?)\s+(?:does|do|can)\s+{_ARTICLE}(.+?)"
    r"\s+(?:take|accept|have|expect|support)s?"
    rf"|how\s+(?:do|can|should)\s+i\s+call\s+{_ARTICLE}(.+)",
    re.IGNORECASE,
)
_BREAK = re.compile(
    r"(?<=\?)\s+(?=\S)|(?<=[.!])\s+(?=(?:how|what|which|when|why|where|who|is|are|do|does|can)\b)", re.I
)
_AND_ASK = re.compile(
    r"\??[,;]?\s+and\s+(?:also\s+)?(?=(?:how|what|which|when|why|where|who|whom|whose)\b)", re.IGNORECASE
)
# A question within another ("how do I know what is installed"): an "and what" after it goes on with that one.
_WITHIN = re.compile(r"\b(?:how|what|which|why|where|when|who|whom|whose|whether)\b", re.I)
_ASKS = re.compile(
    r"^\W*(?:how|what|which|when|why|where|who|whom|whose|is|are|was|were|do|does|did|can|could|may|must|should|will|would|has|have)\b",
    re.I,
)


@dataclass(frozen=True)
class Form:
    """What a question asks for.

    Attributes:
        name: one of FORMS.
        subject: what it asks about: the first side of a comparison, the owner of a list, the document to sum up, the
            thing to define. Empty where the form has none.
        other: the second side of a comparison.
        wanted: the kind of parts a list asks for, in the singular ("function", "section"); empty for a list in a text.
        questions: of TWO, each by itself.
    """

    name: str = PLAIN
    subject: str = ""
    other: str = ""
    wanted: str = ""
    questions: tuple[str, ...] = ()


@lru_cache(maxsize=1024)
def form_of(question: str) -> Form:
    """The form of a question; PLAIN where its wording does not tell."""
    if len(question) > MAX_CHARS:
        return Form()
    if len(parts := questions_in(question)) > 1:
        return Form(TWO, questions=tuple(parts))
    return _of_one(question)


def asks(message: str) -> bool:
    """Whether a message asks, by its first word or its mark: "opening hours", "ferries to Oslo" do not."""
    return message.rstrip().endswith("?") or _ASKS.match(message) is not None


def questions_in(message: str) -> list[str]:
    """The questions a message asks, each whole by itself; the message alone where it asks one.

    A part that leans on the one before ("and how do I undo it?") stays with it: searched alone it would mean nothing.
    """
    if len(message) > MAX_CHARS:
        return [message]
    parts: list[str] = []
    for sentence in _BREAK.split(message.strip()):
        pieces = _AND_ASK.split(sentence)
        if len(pieces) > 1 and any(_WITHIN.search(_first_word_off(piece)) for piece in pieces[:-1]):
            pieces = [sentence]
        for part in pieces:
            whole = len(part.split()) >= LEAST_WORDS and _ASKS.match(part) and not leans_on_before(part)
            if parts and not whole:
                return [message]
            parts.append(part.strip())
    if (
        not 1 < len(parts) <= MAX_QUESTIONS
        or len(_bare(parts[0]).split()) < LEAST_WORDS
        or not _ASKS.match(_bare(parts[0]))
        or leans_on_before(parts[0])
    ):
        return [message]
    return parts


def _first_word_off(question: str) -> str:
    return _bare(question).partition(" ")[2]


def _bare(question: str) -> str:
    """Without politeness before it and stops behind."""
    return _POLITE.sub("", question.strip(), count=1).rstrip(" ?.!\t\r\n") or question


def _of_one(question: str) -> Form:
    bare = _bare(question)
    for pattern in _COMPARED:
        if not (match := pattern.fullmatch(bare)):
            continue
        between = bare[match.end(1) : match.start(2)].split()
        if "and" in between and _JOINED.search(f" {match[2]} "):
            return _after_and(bare)
        if form := _sides(match[1], match[2]):
            return form
    if match := _SUMMARY.fullmatch(bare):
        return Form(SUMMARY, _subject(next(filter(None, match.groups()))))
    if match := _SIGNATURE.fullmatch(bare):
        return Form(SIGNATURE, _subject(next(filter(None, match.groups()))))
    for pattern in _LISTED:
        if match := pattern.fullmatch(bare):
            wanted, subject = match[1].lower(), match[2]
            if pattern is _LISTED[-1]:
                wanted, subject = "part", match[1]
            return Form(LIST, _subject(subject), wanted=_singular(wanted))
    if _YES_NO.match(bare) and " or " not in bare:
        return Form(YES_NO)
    if match := _DEFINED.fullmatch(bare):
        return Form(DEFINITION, _subject(match[1]))
    if _STEPS.match(bare):
        return Form(STEPS)
    if _LIST_IN_TEXT.match(bare) and not _SINGULAR.match(bare):
        return Form(LIST)
    return Form()


def _after_and(bare: str) -> Form:
    """The comparison of two things of which one has an "and" in its name, where "with" or "to" stands between them."""
    match = re.fullmatch(r"compare\s+(.+?)\s+(?:with|to|against|versus|vs\.?)\s+(.+)", bare, re.I)
    return (match and _sides(match[1], match[2])) or Form()


def _sides(one: str, other: str) -> Form | None:
    first, second = _subject(one), _subject(other)
    sides = (first, second)
    if any(not side or len(side.split()) > MAX_SIDE_WORDS or _NOT_A_SIDE.match(side) for side in sides):
        return None
    if any("," in side or all(is_stop_word(word) for word in side.split()) for side in sides):
        return None
    if second[0].isdecimal() and not first[0].isdecimal():
        return None  # "versions 1 and 2 of the protocol"
    return None if first.lower() == second.lower() else Form(COMPARISON, first, second)


def _subject(text: str) -> str:
    """The thing itself: without article, quotation marks, empty call parentheses."""
    plain = re.sub(r"^(?:an?|the|using|use|a)\s+", "", text.strip(" \t\"'`“”‘’?.,;:!"), flags=re.IGNORECASE)
    return re.sub(r"\(\)$", "", plain.strip("\"'`“”‘’"))


def _singular(word: str) -> str:
    return {"classes": "class", "submodules": "submodule"}.get(
        word, word.removesuffix("s") if word != "class" else word
    )


def side_question(side: str) -> str:
    """What is searched and judged for one side of a comparison."""
    return f"What is {side}?"
