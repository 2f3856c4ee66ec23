"""Words of a question as evidence: which carry meaning, and which are names by their spelling.

Spelling and closed-class English only; no list of topics, products or languages. Stems and identifiers are those of the
index (``data_jobs.retrieval.analysis``), so that a word means the same when searched and when judged.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from data_jobs.retrieval.analysis import STOPWORDS, expand, fold, is_identifier, stem, terms

_TOKEN = re.compile(r"[^\W_]+(?:[._]+\w+|['’]\w+)*|__\w+__|_\w+")
_SENTENCE_END = re.compile(r"[.!?:;\n][\"')\]]*\s+[\"'(\[]*$|^[\W_]*$")

# Words of phrasing beside the index's stop words: they say nothing about the topic of a question.
_PHRASING = frozenset(
    """actually again all already also although always another anything around away back become before best better between both
    bring call called came come didn each either else enough etc even ever every everyone everything exactly explain far few first
    gave goes gone good however instead itself keep know last least less long lot made makes making many maybe mean
    means more most much must myself neither never new next no nobody none nor not nothing now often oh okay once only
    onto other others otherwise own perhaps proper put quite rather really right said same say see seem seems show simple
    simplest since somebody still sure take tidy together two under unless until up upon usually via went whatever
    whenever whether whole within won work works yes yet yourself isn wasn weren couldn wouldn shouldn hasn haven hadn aren ain
    let's needn mustn down off over than through three after against along below above was""".split()
)


@dataclass(frozen=True)
class Term:
    """A content word of a question: as written, its stem, and whether its spelling marks it as an identifier (``copy_all``,
    ``json.load``, ``readFile``) or as a proper name (capitalised inside a sentence)."""

    text: str
    stem: str
    identifier: bool = False
    proper: bool = False


def is_stop_word(word: str) -> bool:
    """Whether a word only carries a question's form."""
    head = re.split("['’]", fold(word))[0]
    return head in STOPWORDS or head in _PHRASING


def question_terms(question: str) -> list[Term]:
    """The content words of a question in order, each stem once."""
    found: dict[str, Term] = {}
    matches = list(_TOKEN.finditer(question))
    plain = sum(match.group().islower() for match in matches) >= 0.5 * len(matches)
    for match in matches:
        text = match.group().rstrip("._'’")
        # The capitals of a headline, or of the first word of a sentence, say nothing.
        proper = plain and text[:1].isupper() and not _SENTENCE_END.search(question[: match.start()])
        if not text or (len(text) == 1 and not proper):
            continue
        if is_stop_word(text) and not (proper and len(text) > 1 and not text.isupper()):
            continue
        head = re.split("['’]", text)[0]
        identifier = is_identifier(head) and max(map(len, re.split(r"[._]+", head))) > 1  # not "e.g."
        term = Term(head, fold(head) if identifier else stem(fold(head)), identifier, proper and not identifier)
        known = found.get(term.stem)
        if known is None or (term.identifier, term.proper) > (known.identifier, known.proper):
            found[term.stem] = term
    return list(found.values())


def name_stems(name: str) -> set[str]:
    """Stems of the words inside an identifier, without the whole: ``shutil.copyFileObj`` -> shutil, copi, file, obj."""
    return {part for part in expand(name) if part != fold(name)} or set(expand(name))


def text_stems(text: str) -> set[str]:
    """Stems of every content word of a text, parts of identifiers and whole identifiers included."""
    return set(terms(text))
