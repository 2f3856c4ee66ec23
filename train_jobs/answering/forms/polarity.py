"""Yes or no, only where one sentence says so plainly.

Plainly: the sentence says the words that the question turns on, in the question's order, and no others: one more may be
another subject ("guide dogs"), a condition ("with approval"), a speaker ("it is false that"). It neither hedges, nor
quotes, nor speaks of another time. What is permitted or forbidden may be said in other words of permission. Anything
else is left to the quotation itself.
"""

from __future__ import annotations

import re

from data_jobs.retrieval.analysis import fold, stem
from data_jobs.retrieval.asking import YES_NO, form_of
from data_jobs.retrieval.wording import is_stop_word

_TOKEN = re.compile(r"[^\W_]+(?:[._'’-]+[^\W_]+)*")
_NEGATION = re.compile(
    r"\b(?:not|cannot|never|no longer|neither|nor|without|can[’']t|won[’']t"
    r"|(?:do|does|did|is|are|was|were|could|must|should|would|may|has|have)n[’']t)\b",
    re.IGNORECASE,
)
_NO = re.compile(r"\b(?:no|none|nobody|nothing)\b", re.IGNORECASE)
_HEDGES = re.compile(
    r"\b(?:only|unless|except|if|when|where|who|whose|until|sometimes|usually|often|mostly|generally|some|most|many|few"
    r"|almost|nearly|might|may be|should|partly|depends?|depending|but|however|although|though|or|rather|instead"
    r"|at least|at most|up to|more than|less than)\b",
    re.IGNORECASE,
)
_ALLOWED = frozenset(map(stem, ("allow", "allowed", "permit", "permitted", "possible", "supported", "support", "able")))
_FORBIDDEN = frozenset(
    map(stem, ("forbidden", "forbid", "prohibited", "prohibit", "banned", "disallowed", "impossible", "unsupported"))
)
_MODALS = re.compile(
    r"^\W*(?:can|could|may|is it (?:possible|allowed|permitted)|are we allowed|am i allowed)\b", re.IGNORECASE
)
_CAN = re.compile(r"\b(?:can|may|could)\b", re.IGNORECASE)
_NEGATED_QUESTION = re.compile(r"n[’']t\b|\bnot\b|\bno\b|\bwithout\b|\bnever\b", re.IGNORECASE)
_ENDS = re.compile(r"[.!。！]$")  # of a whole sentence, rather than a heading or a note
_QUOTES = re.compile(r"[\"“”„«»]")
# Small words that decide what is said: a sentence has those of the question, and no others.
_DECIDE = re.compile(
    r"\b(?:was|were|had|did|could|will|would|used|before|after|over|under|above|below|with|from|outside|inside|off|since"
    r"|during|between|against|its|their|his|her|soon|yet|again|once|too|very|just)(?=\b|n[’']t)",
    re.IGNORECASE,
)
_ALL = re.compile(r"\b(?:all|every|always|any|ever|both|each|everyone|everybody|everything)\b", re.IGNORECASE)
MAX_WORDS = 30  # of a sentence that may say so plainly


def said(question: str, sentence: str) -> str:
    """``Yes`` or ``No`` where the sentence says so plainly, else nothing."""
    if form_of(question).name != YES_NO or _NEGATED_QUESTION.search(question):
        return ""
    body = sentence.strip()
    if len(body.split()) > MAX_WORDS or _HEDGES.search(f"{body} {question}") or not _ENDS.search(body):
        return ""
    if _QUOTES.search(body) or _decides(question) != _decides(body) or not _alls(question) <= _alls(body):
        return ""
    asked, words = _content(question), _content(body)
    permission = bool(_MODALS.match(question)) or any(word in _ALLOWED | _FORBIDDEN for word in asked)
    turns_on = [word for word in asked if not permission or word not in _ALLOWED | _FORBIDDEN]
    says = [word for word in words if not permission or word not in _ALLOWED | _FORBIDDEN]
    if not turns_on or turns_on != says or _past(body) - _past(question):
        return ""
    negative = bool(_NEGATION.search(body)) or bool(_NO.match(body))
    if negative and _alls(body):
        return ""  # "not all are": some may be
    if _NO.search(body) and not negative:
        return ""  # "has no limit": what is denied is not clear from words alone
    if len(_NEGATION.findall(body)) > 1:
        return ""
    if not permission:
        return "No" if negative else "Yes"
    forbids = any(word in _FORBIDDEN for word in words)
    allows = bool(_CAN.search(body)) or any(word in _ALLOWED for word in words)
    asked_forbidden = any(word in _FORBIDDEN for word in asked)
    if (forbids and (allows or negative)) or not (forbids or allows or negative):
        return ""
    denied = forbids or negative
    return "Yes" if denied == asked_forbidden else "No"


def _content(text: str) -> list[str]:
    """Stems of the words that carry meaning, in order; numbers too."""
    tokens = [fold(word) for word in _TOKEN.findall(text)]
    return [stem(token) for token in tokens if not is_stop_word(token) and token not in _POSSESSION]


_POSSESSION = frozenset(("must", "has", "have", "had", "been", "being"))


def _decides(text: str) -> set[str]:
    """The small words that decide; of a question without the modal verb that it opens with out of politeness."""
    return {fold(word) for word in _DECIDE.findall(re.sub(r"^\W*(?:could|would|did)\b", "", text, flags=re.I))}


def _alls(text: str) -> set[str]:
    return {fold(word) for word in _ALL.findall(text)}


def _past(text: str) -> set[str]:
    """Stems of verbs in the past tense: in "-ed" without "is", "are", "be" before them; none after "did" or "has"."""
    if re.match(r"\W*(?:did|has|have)\b", text, re.I) or re.search(
        r"\b(?:is|are|be|been|being|am|isn|aren)\b", text, re.I
    ):
        return set()
    return {stem(fold(word)) for word in _TOKEN.findall(text) if word.lower().endswith("ed") and len(word) > 4}
