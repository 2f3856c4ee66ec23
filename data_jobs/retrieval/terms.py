"""Words of a question as evidence: which carry meaning, and which are names by their spelling.

Spelling and closed-class English only; no list of topics, products or languages. Stems and identifiers are those of the
index (``data_jobs.retrieval.analysis``), so that a word means the same when searched and when judged.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from data_jobs.retrieval.analysis import expand, fold, is_identifier, stem
from data_jobs.retrieval.wording import is_stop_word

# C++ and C# are names too: a letter, then signs.
_TOKEN = re.compile(r"[A-Z](?:\+\+|#)(?!\w)|[^\W_]+(?:[._]+\w+|['’]\w+)*|__\w+__|_\w+")
_SENTENCE_END = re.compile(r"[.!?:;\n][\"')\]]*\s+[\"'(\[]*$")
MAX_TOKENS = 200


@dataclass(frozen=True)
class Term:
    """A content word of a question.

    Attributes:
        text, stem: as written (without 's), and as the index stems it; identifiers keep their whole name.
        identifier: spelt like a name in code (``copy_all``, ``json.load``, ``readFile``).
        proper: spelt like a name: a capital inside a sentence. ``New York`` is one term of two words.
        acronym: all capitals or digits (``PDF``): a name, or just an abbreviation everybody knows.
    """

    text: str
    stem: str
    identifier: bool = False
    proper: bool = False
    acronym: bool = False


def question_terms(question: str) -> list[Term]:
    """The content words of a question in order, each stem once."""
    found: dict[str, Term] = {}
    matches = list(_TOKEN.finditer(question))
    if len(matches) > MAX_TOKENS:  # the question proper stands at one end of a long text
        matches = matches[: MAX_TOKENS // 2] + matches[-MAX_TOKENS // 2 :]
    long = [match.group() for match in matches if len(match.group()) > 1 and match.group().isalpha()]
    plain = sum(word.islower() for word in long) >= 0.5 * len(long)
    before = -1  # where the last proper name ended
    last = ""
    for match in matches:
        # The capitals of a headline, or of the first word of a sentence, say nothing.
        starts = match is matches[0] or _SENTENCE_END.search(question[max(0, match.start() - 8) : match.start()])
        capital = plain and match.group()[0].isupper() and not starts
        term = _term(match.group(), capital)
        if term is None:
            continue
        if term.proper and not term.acronym and before >= 0 and question[before : match.start()] == " ":
            name = found.pop(last)
            term = Term(f"{name.text} {term.text}", f"{name.stem} {term.stem}", proper=True)
        before = match.end() if term.proper and not term.acronym else -1
        last = term.stem
        known = found.get(term.stem)
        if known is None or (term.identifier, term.proper) > (known.identifier, known.proper):
            found[term.stem] = term
    return list(found.values())


def _term(token: str, capital: bool) -> Term | None:
    head = re.split("['’]", token.rstrip("._'’"))[0]
    if not head or (len(head) == 1 and not (capital and head != "I")):
        return None
    if max(map(len, re.split(r"[._]+", head))) == 1 < len(head):  # "e.g.", "i.e."
        return None
    acronym = len(head) > 1 and head.isupper() and head.isalnum()
    if is_stop_word(head) and not (capital and not acronym and len(head) > 1):
        return None
    if is_identifier(head):
        return Term(head, fold(head), identifier=True)
    return Term(head, stem(fold(head)), proper=capital or acronym, acronym=acronym)


def name_stems(name: str) -> set[str]:
    """Stems of the words inside an identifier, without the whole: ``shutil.copyFileObj`` -> shutil, copi, file, obj."""
    return {part for part in expand(name) if part != fold(name)} or set(expand(name))
