"""Of a code object its signature, and an example where its documentation holds one: shown where the question asks."""

from __future__ import annotations

import re

from cluster.core.records import Passage
from data_jobs.retrieval.asking import DEFINITION, SIGNATURE, form_of
from data_jobs.retrieval.names import is_named
from data_jobs.retrieval.results import Retrieval, ScoredSentence
from data_jobs.text.units import CODE_BLOCK
from train_jobs.answering.whole import FENCE, shown_code

_EXAMPLE = re.compile(
    r"\b(?:examples?|snippet|sample|syntax|show me)\b|\bhow (?:do|can|should|would) (?:i|you|we) (?:use|call)\b",
    re.I,
)
_PROMPT = re.compile(r"^[ \t]*>>> ", re.MULTILINE)
MAX_EXAMPLE_WORDS = 90
# "Give me an example of X", "X example", but not "the signature of random.sample" or "the example server".
_ONLY_EXAMPLE = re.compile(
    r"\b(?:an?|some|any|show|give)\s+(?:me\s+)?(?:an?\s+)?(?:examples?|snippet)\b|\bexamples?\W*$", re.I
)
NO_EXAMPLE = "(No example stands there.)"


def asks_for_example(question: str) -> bool:
    """Whether code would answer the question: an example, or how to call something."""
    return bool(_EXAMPLE.search(question))


def shows_signature(question: str, passage: Passage) -> bool:
    """Whether the question asks for the signature, or what the object is that it names."""
    form = form_of(question)
    if "(" not in passage.title or form.name not in (SIGNATURE, DEFINITION):
        return asks_for_example(question) and "(" in passage.title
    last = passage.document.rpartition(".")[2].lower()
    said = re.findall(r"[a-z_][\w.]*", question.lower())
    return (
        form.name == SIGNATURE
        or passage.document.lower() in said
        or last in said
        or is_named(passage.document, question)
    )


def signature(passage: Passage) -> str:
    """The signature between fences."""
    return f"{FENCE}\n{passage.title}\n{FENCE}"


def example(question: str, found: Retrieval, place: int) -> str:
    """The first example in a passage, between fences; empty where the question asks for none. Where it asks for nothing
    else and the passage holds none, that is said."""
    if not asks_for_example(question):
        return ""
    passage = found.passages[place]
    blocks = [s for s in found.sentences if s.passage == place and s.kind == CODE_BLOCK]
    shown = [_block(passage, block) for block in blocks] or _prompted(passage.text)
    return shown[0] if shown else NO_EXAMPLE if _ONLY_EXAMPLE.search(question) else ""


def _block(passage: Passage, block: ScoredSentence) -> str:
    at = block.start - passage.start
    indent = at - passage.text.rfind("\n", 0, at) - 1
    return shown_code(block.text, block.header, indent, MAX_EXAMPLE_WORDS)


def _prompted(text: str) -> list[str]:
    """Runs of an interpreter's prompt with what it printed: paragraphs that begin with ``>>>``."""
    runs = [part for part in re.split(r"\n[ \t]*\n", text) if _PROMPT.match(part)]
    return [shown_code(run.strip("\n"), "", 0, MAX_EXAMPLE_WORDS) for run in runs]
