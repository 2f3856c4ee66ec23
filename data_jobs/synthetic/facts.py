"""Facts that a sentence states in a form that rules can ask for, and questions that its text does not answer. English.

A fact is a subject, what is said of it, and the piece that answers: "The ship was built in 1987" holds the date of the
building of *the ship*. What it does not hold can be asked as well: who built it, when it was sold.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from data_jobs.retrieval.analysis import stem
from data_jobs.retrieval.wording import text_stems

_NAME = r"(?:[A-Z][\w'’.-]*)(?: (?:of|the|de|van|and)? ?[A-Z][\w'’.-]*){0,3}"
_SUBJECT = rf"(?P<subject>(?:The|A|An|This|Our|Its) (?:[\w'’-]+ ){{0,3}}[\w'’-]+|{_NAME})"
_DATE = (
    r"(?:(?:early|late|mid-?) ?)?(?:\d{1,2} )?(?:(?:January|February|March|April|May|June|July|August|September"
    r"|October|November|December) )?(?:\d{1,2},? )?(?:1[0-9]|20)\d\d"
)
_NUMBER = (
    r"(?:about |over |nearly |up to |more than |at least |at most )?(?:[$€£]\s?)?\d[\d,.]*(?:%| ?(?:million|thousand))?"
)
_DONE = re.compile(
    rf"^{_SUBJECT} (?P<be>was|were|is|are) (?P<verb>\w+(?:ed|en|own|ilt|ade|ought|old|ound|eld|ung))\b"
    r"(?P<rest>[^.;]*)"
)
_WHEN = re.compile(rf"\b(?:in|on|since|until|from|by) (?:the )?(?P<answer>{_DATE})\b")
_BY = re.compile(rf"\bby (?P<answer>(?:the )?{_NAME})")
_AT = re.compile(rf"\b(?:in|at|near|from) (?P<answer>(?:the )?{_NAME})(?![\w ]*\d{{3}})")
_HAS = re.compile(
    rf"^{_SUBJECT} (?P<verb>has|have|had|holds?|held|contains?|employs?|employed|seats?|needs?|uses?)"
    rf" (?P<answer>{_NUMBER}) (?P<unit>[a-z]+(?: [a-z]+)?)\b"
)
_IS = re.compile(rf"^{_SUBJECT} (?P<be>is|was|are|were) (?P<answer>(?:an?|the|one of the) [a-z][^.;:()]{{8,90}})")
_DID = re.compile(
    rf"^(?P<answer>{_NAME}) (?P<verb>wrote|founded|built|led|became|won|invented|discovered|defeated|signed|ruled"
    r"|published|designed|opened|captured|introduced|established|proposed|received) (?P<rest>[^.;,]{6,60})"
)
_NO_SUBJECT = frozenset(
    """the a an it this that these those they he she we you there here i in on at for if when while as but and or so
    however before during since then thus although because one some many most all each both such its our his her their
    what who which where how why not no by to from with""".split()  # noqa: SIM905
)
# What can be done to a thing, in groups of like meaning: a question for one group is not answered by another.
_ACTIONS = (
    ("built", "constructed", "made", "created", "founded", "established", "started", "begun", "introduced", "designed"),
    ("opened", "launched", "released", "published", "begun", "started"),
    ("closed", "shut", "ended", "abolished", "stopped"),
    ("sold", "given"),
    ("bought", "acquired", "purchased"),
    ("renovated", "restored", "repaired", "rebuilt", "renewed"),
    ("destroyed", "demolished", "burned", "lost"),
    ("named", "renamed", "called"),
    ("painted", "cleaned"),
    ("moved", "relocated"),
    ("stolen",),
    ("inspected", "tested"),
)
_WHO = ("Who {verb} {s}?", "Who was {s} {verb} by?", "Which person {verb} {s}?")
_WHEN_ASKED = ("When was {s} {verb}?", "In what year was {s} {verb}?", "{s} {verb} when?", "What year was {s} {verb}?")
_WHERE_ASKED = ("Where was {s} {verb}?", "In which place was {s} {verb}?")
_MANY = (
    "How many people work for {s}?",
    "How much does {s} cost?",
    "How tall is {s}?",
    "How many visitors does {s} have?",
    "What is the price of {s}?",
    "How old is {s}?",
    "How long does {s} take?",
    "How heavy is {s}?",
    "What is the size of {s}?",
    "What is the phone number of {s}?",
    "How fast is {s}?",
)
_PERSONS = (
    "Who owns {s}?",
    "Who is in charge of {s}?",
    "Who pays for {s}?",
    "Who wrote {s}?",
    "Who is the director of {s}?",
    "Who is the contact for {s}?",
)
_TIMES = ("When does {s} open?", "When does {s} end?", "What is the deadline for {s}?", "On which day is {s}?")
_OTHERS = (
    "What colour is {s}?",
    "What is the address of {s}?",
    "What is {s} made of?",
    "Why was {s} closed?",
    "Which language does {s} use?",
    "What is the licence of {s}?",
    "How do I cancel {s}?",
    "What is the warranty of {s}?",
)
_CODE = (
    "Which version of Python added {s}?",
    "What is the time complexity of {s}?",
    "Is {s} thread-safe?",
    "What is the default timeout of {s}?",
    "How much memory does {s} need?",
    "Who wrote {s}?",
    "When will {s} be removed?",
    "Which operating systems support {s}?",
)
_MARK = re.compile(
    r"\d|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|dozen|hundred|thousand|million|half|twice)\b", re.I
)
_PERSON = re.compile(r"(?<=[a-z,] )[A-Z][a-z]+|\b(?:he|she|who|team|owner|author|people|company|king|president|by)\b")
_TIME = re.compile(
    r"\d|\b(?:mon|tues|wednes|thurs|fri|satur|sun)day|\b(?:january|february|march|april|may|june|july|august|september"
    r"|october|november|december|daily|week|month|year|noon|midnight|when|until|after|before)",
    re.I,
)
_VERBS = (
    "copy",
    "delete",
    "rename",
    "encrypt",
    "print",
    "sort",
    "compress",
    "download",
    "translate",
    "test",
    "install",
    "validate",
    "schedule",
    "merge",
    "draw",
    "lock",
    "export",
    "restore",
    "cancel",
    "share",
    "count",
    "split",
    "convert",
    "measure",
    "log",
)
_HOW = re.compile(
    r"\b(?P<lead>(?:how (?:do|can|should|would|to)(?: i| you| we)?|is there a way to|i want to|way to))"
    r" (?P<verb>[a-z]+) (?P<rest>\w.*)",
    re.I,
)
_YEAR = re.compile(r"\b(?:1[0-9]|20)\d\d\b|\b\d+\b")


@dataclass(frozen=True)
class Fact:
    """A fact: its subject as it stands in a question, the questions it answers ({s} is the subject), the answer."""

    subject: str
    forms: tuple[str, ...]
    answer: str

    def question(self, picker: random.Random, subject: str = "") -> str:
        """One of its questions, of its own subject or of another."""
        asked = picker.choice(self.forms).format(s=subject or self.subject)
        return asked[:1].upper() + asked[1:]


def facts_of(sentence: str) -> list[Fact]:
    """The facts that a sentence states, none where rules cannot tell."""
    found: list[Fact] = []
    text = " ".join(sentence.split())
    if (match := _DONE.match(text)) and (subject := _subject(match)):
        for pattern, forms in ((_WHEN, _WHEN_ASKED), (_BY, _WHO), (_AT, _WHERE_ASKED)):
            if slot := pattern.search(match["rest"]):
                be = [form.replace(" was ", f" {match['be']} ").replace("{verb}", match["verb"]) for form in forms]
                found.append(Fact(subject, tuple(be), slot["answer"]))
    if (match := _HAS.match(text)) and (subject := _subject(match)):
        base = {"has": "have", "had": "have", "held": "hold", "employed": "employ"}.get(
            match["verb"], match["verb"].removesuffix("s")
        )
        found.append(
            Fact(
                subject,
                (f"How many {match['unit']} does {{s}} {base}?", f"What number of {match['unit']} does {{s}} {base}?"),
                match["answer"],
            )
        )
    if (match := _IS.match(text)) and (subject := _subject(match)) and match["answer"].count(" ") >= 2:
        found.append(Fact(subject, ("What {} {{s}}?".format(match["be"]), "{s} meaning"), match["answer"].strip()))
    if (match := _DID.match(text)) and match["answer"].split()[0].lower() not in _NO_SUBJECT:
        rest = match["rest"].strip().replace("{", "").replace("}", "")
        found.append(Fact(rest, (f"Who {match['verb']} {{s}}?",), match["answer"]))
    return found


def _subject(match: re.Match[str]) -> str:
    """The subject as it stands within a question; empty where it stands for something told before."""
    subject = match["subject"].replace("{", "").replace("}", "")
    first, _, rest = subject.partition(" ")
    if first.lower() in ("this", "its"):
        return ""
    if first.lower() in ("the", "a", "an", "our"):
        return f"the {rest}" if rest and rest.split()[0].lower() not in _NO_SUBJECT else ""
    return "" if first.lower() in _NO_SUBJECT else subject


def subject_in(subject: str, text: str) -> bool:
    """Whether a text (lower case) names a subject, or most of it."""
    stems = text_stems(subject)
    return not stems or len(stems & text_stems(text)) > 0.5 * len(stems)


def attribute_questions(subject: str, text: str, code: bool = False) -> list[str]:
    """Questions for what a text does not tell of a subject; sure only where it holds nothing of the kind."""
    found = list(_OTHERS) if not code else list(_CODE)
    if not code:
        found += [] if _MARK.search(text) else list(_MANY)
        found += [] if _PERSON.search(text) else list(_PERSONS)
        found += [] if _TIME.search(text) else list(_TIMES)
        said = text_stems(text)
        for group in _ACTIONS:
            if not any(stem(word) in said for word in group):
                found += [form.format(s="{s}", verb=group[0]) for form in (*_WHEN_ASKED[:2], *_WHO[:2])]
    stems = text_stems(text)
    asked = [form.format(s=subject) for form in found if not (text_stems(form.replace("{s}", "")) & stems)]
    return [question[:1].upper() + question[1:] for question in asked]


def another_number(question: str, text: str, picker: random.Random) -> str:
    """The question with another number than its own, which the text does not have; empty without one."""
    match = _YEAR.search(question)
    if match is None or match[0] not in text:
        return ""
    value = int(match[0])
    other = str(value + picker.choice((-1, 1)) * picker.randint(1, max(3, value // 60)))
    return "" if other in text or other.startswith("-") else question[: match.start()] + other + question[match.end() :]


def other_action(question: str, text: str, picker: random.Random) -> str:
    """ "How do I copy a file?" -> "How do I encrypt a file?", where the text says nothing of it; else empty."""
    match = _HOW.search(question)
    if match is None:
        return ""
    said = text_stems(f"{text} {question}")
    verbs = [verb for verb in _VERBS if stem(verb) not in said]
    return f"{question[: match.start('verb')]}{picker.choice(verbs)} {match['rest']}" if verbs else ""
