"""Says a sentence in other words, by rules that keep what it says: the paraphrases of synthetic data.

Two kinds: clauses change places ("If A, B." and "B if A."), and set phrases are exchanged for ones that mean the same
wherever they stand ("you can" and "it is possible to"). Numbers, identifiers and negations are never touched;
``faithful`` checks it. The thesaurus of the search is not used: it says what may be meant as well ("look" finds
"locate"), and put into a sentence such words spoil it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from data_jobs.retrieval.analysis import is_identifier
from data_jobs.retrieval.wording import is_stop_word, text_stems
from data_jobs.synthetic.writer import base_verb

RULES = ("clause_order", "phrase")
# A rewrite must keep this share of the stems of content words; with fewer it says something else.
MIN_KEPT = 0.6
MAX_PHRASES = 3
_FIRST = re.compile(
    r"^(?P<word>If|When|Before|After|Unless|While|Because|Once) (?P<clause>[^,;:()]{8,120}), (?:then )?"
    r"(?P<main>[^;:]+)\.$"
)
_LAST = re.compile(
    r"^(?P<main>[A-Z][^,;:()]{8,160}?) (?P<word>if|when|before|after|unless|while|because|once) "
    r"(?P<clause>[^,;:()]{8,120})\.$"
)
_PURPOSE = re.compile(r"^(?:In order )?[Tt]o (?P<clause>[a-z]+ [^,;:()]{4,100}), (?P<main>[a-z][^;:]{8,160})\.$")
# Both sides mean the same where they stand; the first match of the left side is exchanged for the right one.
_PHRASES = tuple(
    (re.compile(rf"\b(?i:{left[0]}){left[1:]}\b" if left[0].isalpha() else rf"\b{left}\b"), right)
    for left, right in (
        ("[Yy]ou can also", "it is also possible to"), ("[Yy]ou can(?! only|not)", "it is possible to"),
        ("[Ii]t is possible to", "you can"), ("in order to", "to"), ("make sure that", "ensure that"),
        ("ensure that", "make sure that"), ("allows you to", "lets you"), ("lets you", "allows you to"),
        ("as well as", "and also"), ("such as", "for example"), ("because", "since"), ("a number of", "several"),
        ("do not", "don't"), ("does not", "doesn't"), ("cannot", "can't"), ("is not", "isn't"), ("are not", "aren't"),
        ("at least", "no less than"), ("at most", "no more than"), ("in addition", "besides"),
        ("for instance", "for example"), ("therefore", "for this reason"), ("(?:is|are) able to", "can"),
        ("due to", "because of"), ("instead of", "rather than"), ("prior to", "before"), ("want to", "would like to"),
        ("need to", "have to"), ("currently", "at present"), ("usually", "normally"), ("often", "frequently"),
        ("multiple", "several"), ("additional", "further"), ("each(?! of| other)", "every"), ("via", "through"),
        ("and then", "and after that"), ("regardless of", "whatever"), ("provides", "offers"),
        ("in this case", "then"), ("whenever", "every time"), ("almost", "nearly"),
    )
)  # fmt: skip
_TOKEN = re.compile(r"[^\W_][\w'.-]*[^\W_]|[^\W_]")
_NUMBER = re.compile(r"\d[\d.,:]*")
_NEGATION = re.compile(r"\b(?:not|no|never|none|nor|neither|cannot|without|only)\b|n['’]t\b", re.IGNORECASE)
_KEEPS_NEGATION = re.compile(r"\bno (?:less|more) than\b", re.IGNORECASE)


def paraphrases(sentence: str) -> Iterator[tuple[str, str]]:
    """(rule, other wording) for every rule that applies to a sentence; line breaks in it become spaces."""
    text = " ".join(sentence.split())
    for rule, say in (("clause_order", clause_order), ("phrase", phrase)):
        said = say(text)
        if said is not None:
            yield rule, said


def clause_order(text: str) -> str | None:
    """``If A, B.`` -> ``B if A.``; ``B if A.`` -> ``If A, B.``; ``To A, do B.`` -> ``Do B to A.``; None for others."""
    match = _FIRST.match(text)
    if match:
        return f"{_capital(match['main'])} {match['word'].lower()} {match['clause']}."
    match = _PURPOSE.match(text)
    if match:
        return f"{_capital(match['main'])} to {match['clause']}."
    match = _LAST.match(text)
    if match and not is_stop_word(match["main"].rsplit(" ", 1)[-1]):  # "The only way is if ...": no clause of its own
        return f"{match['word'].capitalize()} {match['clause']}, {_small(match['main'])}."
    return None


def phrase(text: str) -> str | None:
    """Up to ``MAX_PHRASES`` set phrases exchanged for ones that mean the same; None where there is none."""
    found: list[tuple[int, int, str]] = []
    for pattern, right in _PHRASES:
        match = pattern.search(text)
        if match and all(match.end() <= start or end <= match.start() for start, end, _ in found):
            found.append((match.start(), match.end(), right))
    if not found:
        return None
    for start, end, right in sorted(found[:MAX_PHRASES], reverse=True):
        text = text[:start] + (_capital(right) if text[start].isupper() else right) + text[end:]
    return text


def faithful(original: str, said: str) -> str | None:
    """Why ``said`` is no paraphrase of ``original``, or None where nothing speaks against it.

    Reasons: ``unchanged``; ``numbers_changed``; ``names_changed`` (identifiers); ``negation_changed``;
    ``meaning_changed`` (too few content words stayed).
    """
    if " ".join(original.lower().split()) == " ".join(said.lower().split()):
        return "unchanged"
    if Counter(_NUMBER.findall(original)) != Counter(_NUMBER.findall(said)):
        return "numbers_changed"
    if _names(original) != _names(said):
        return "names_changed"
    if _negations(original) != _negations(said):
        return "negation_changed"
    stems = text_stems(original)
    kept = len(stems & text_stems(said)) / len(stems) if stems else 0.0
    return None if kept >= MIN_KEPT else "meaning_changed"


def _names(text: str) -> Counter[str]:
    return Counter(token for token in _TOKEN.findall(text) if is_identifier(token) and not is_stop_word(token))


def _negations(text: str) -> int:
    return len(_NEGATION.findall(_KEEPS_NEGATION.sub("", text)))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _small(text: str) -> str:
    """Lower-case the first letter, unless the first word is a name by its spelling (``PDF``, ``readFile``, ``I``)."""
    first = text.split(" ", 1)[0]
    known = first.istitle() and (is_stop_word(first) or base_verb(first) is not None)
    return text[:1].lower() + text[1:] if known else text
