"""Which words of a text carry meaning, as index terms: shared by questions made, asked and judged.

Closed-class English only; no list of topics, products or languages. Stems are those of the index (``analysis``), so
that a word means the same when searched and when judged.
"""

from __future__ import annotations

import re

from data_jobs.retrieval.analysis import STOPWORDS, fold, terms

# Words of phrasing beside the index's stop words: they say nothing about the topic of a question.
_PHRASING = frozenset(
    """actually again all already also although always another anything around away back become before best better
    between both bring call called came come didn each either else enough etc even ever every everyone everything
    exactly explain far few first gave goes gone good however instead itself keep know last least less long lot made
    makes making many maybe mean means more most much must myself neither never new next no nobody none nor not
    nothing now often oh okay once only onto other others otherwise own perhaps proper put quite rather really right
    said same say see seem seems show simple simplest since somebody still sure take tidy together two under unless
    until up upon usually via went whatever whenever whether whole within won work works yes yet yourself isn wasn
    weren couldn wouldn shouldn hasn haven hadn aren ain let's needn mustn down off over than through three after
    against along below above was""".split()  # noqa: SIM905
)


def is_stop_word(word: str) -> bool:
    """Whether a word only carries a question's form."""
    head = re.split("['’]", fold(word))[0]
    return head in STOPWORDS or head in _PHRASING


def text_stems(text: str) -> set[str]:
    """Stems of every content word of a text, parts of identifiers and whole identifiers included."""
    return set(terms(text))
