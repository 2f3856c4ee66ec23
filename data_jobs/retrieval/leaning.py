"""Whether a message needs the one before it to be understood: a reference ("it"), a fragment ("with gzip?").

Closed classes of words only, of English and of a few other languages.
"""

from __future__ import annotations

import re

from data_jobs.retrieval.wording import is_stop_word

MAX_FOLLOW_UP_WORDS = 12
MAX_FOLLOW_UP_CHARS = 200
_WORD = re.compile(r"\w+(?:['’.]\w+)*")
# How a message starts that continues the one before.
_OPENERS = re.compile(
    r"^\W*(?:and|but|or|so|then|also|ok(?:ay)?|now|what about|how about|what if|same|instead|why|in that case"
    r"|und|aber|oder|auch|warum|wieso|was ist mit|wie ist es mit|wie sieht es"
    r"|et|mais|ou|pourquoi|qu'en est-il|y|pero|y si|por qué|¿y|qué pasa con|ma|perché|e|mas|en|maar|waarom)\b",
    re.IGNORECASE,
)
# What asks for more of what was said: "Give me an example.", "More details?", "Explain."
_MORE = re.compile(
    r"^\W*(?:(?:can|could|would|will) you\s+)?(?:please\s+)?"
    r"(?:(?:(?:give|show)(?: me| us)?|do you have|is there|got|have you|any)\s+)?(?:please\s+)?"
    r"(?:(?:an?|one|another|some|more|any|the|for|a (?:short|simple|small))\s+)?"
    r"(?:code\s+)?(?:examples?|details?|sample|more|explain|elaborate|go on|continue|tell me more"
    r"|beispiele?|mehr|ejemplos?|exemples?|esempi[o]?|exemplos?)(?:\s+please)?\W*$",
    re.IGNORECASE,
)
# Words that point back. "it is" and "is it possible" do not: there is nothing before them to point at.
_POINTERS = re.compile(
    r"\b(?:it|its|this|that|these|those|them|they|one|ones|same|other|another|instead|else|former|latter|previous|above"
    r"|dies|diese[rsmn]?|letztere[rsmn]?|celui-ci|celle-ci|cela|ça|esto|eso|questo|quello|isso)\b",
    re.IGNORECASE,
)
_EXPLETIVE = re.compile(
    r"\b(?:is|was|does|would|will|can) it (?:possible|ok(?:ay)?|safe|better|best|true|make sense|matter)\b"
    r"|\bit(?:'|’)?s? (?:is |was )?(?:possible|better|best|true)\b"
    r"|\b(?:so|such|now|in order|see|check|know|sure|means?|says?|tell|find|shows?) that\b|\bthat(?:'|’)?s it\b"
    r"|\bthis (?:week|year|month|morning|machine|computer|file|folder)\b|\bone (?:of|by|line|item|element)\b"
    r"|\b(?:which|anyone|someone|no) one\b|\beach other\b",
    re.IGNORECASE,
)
# A fragment: "with gzip?", "recursively?", "for directories"; "what is gzip" and "sort a list" are whole.
_FRAGMENT = re.compile(
    r"^\W*(?:with|without|for|in|on|from|to|as|by|using|via|under|over|after|before|except|only|just|\w+ly"
    r"|mit|ohne|für|nur|avec|sans|pour|seulement|con|sin|para|solo|sólo|com|sem)\b",
    re.I,
)
_FRAGMENT_WORDS = 5
# A bare dotted name or call (os.path.join, shutil.copytree()) is a question of its own.
_NAME = re.compile(r"\W*[^\W_]+(?:[._]+[^\W_]+)+(?:\(\))?\W*")
_OWN_TOPIC_WORDS = 2
_THANKS = re.compile(
    r"^\W*(?:thanks?|thank you|great|perfect|cheers|hello|hi|hey|good (?:morning|evening|day))\b", re.IGNORECASE
)


def leans_on_before(text: str) -> bool:
    """Whether a message needs the one before it to be understood."""
    if len(text) > MAX_FOLLOW_UP_CHARS:
        return False
    words = _WORD.findall(text)
    if len(words) > MAX_FOLLOW_UP_WORDS or _THANKS.match(text):
        return False
    if _OPENERS.match(text) or _MORE.match(text):
        return True
    pointer = _POINTERS.search(_EXPLETIVE.sub(" ", text))
    if pointer:
        # "I have a list; how do I sort it": what it points at stands in the message itself.
        before = [word for word in _WORD.findall(text[: pointer.start()]) if not is_stop_word(word)]
        return len(before) < _OWN_TOPIC_WORDS
    if len(words) == 1:
        return not _NAME.fullmatch(text)
    return len(words) <= _FRAGMENT_WORDS and bool(_FRAGMENT.match(text))
