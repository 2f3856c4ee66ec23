"""How sure one may be that the passages found answer a question: calibrated probabilities from general evidence.

Logistic models, whose coefficients lie beside this file. ``support_model.json`` judges by what the search measured
and what the passages' words say. Where a reader read the passages, ``confidence_model.json`` combines its best
probability with that judgement, and with whether what it points at is of the kind that is asked for.

Where code is documented, ``code_model.json`` holds the first judgement against how near the question is to questions
about the language itself (``beside``), which documentation of functions and classes resembles and does not answer.

A reader is asked whether prose tells what a few sentences tell or do not (``facts_asked``), where the search does not
rule it out: what is asked in other words than the documents' has little support, and only the reader can tell. Of
how-tos, definitions and documented code the search's evidence knows as much as the reader, or more.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from cluster.core.records import CODE_KINDS
from data_jobs.retrieval.analysis import expand, term_set
from data_jobs.retrieval.facts_asked import fact_asked, may_tell, told_at_once
from data_jobs.retrieval.names import is_named, missing_names, path_words
from data_jobs.retrieval.results import Confidence, Retrieval, WindowReading
from data_jobs.retrieval.terms import Term, question_terms
from data_jobs.retrieval.wording import is_stop_word, text_stems

MODEL = Path(__file__).with_name("support_model.json")
CONFIDENCE_MODEL = Path(__file__).with_name("confidence_model.json")
CODE_MODEL = Path(__file__).with_name("code_model.json")
# Counts say nothing new beyond this; without a bound, a very long question would outweigh all other evidence.
MOST = {"terms": 12.0, "strange_words": 2.0, "unknown_identifiers": 2.0}
# What a question is asked within, at its end and without an article: "in Go", "with pika", "using docker".
_SCOPE = re.compile(r"\b(?:in|with|using|on|for|from|via)\s+([A-Za-z][\w.+#-]*)$")
_TAIL = 80  # characters of a question in which it is looked for
# Least support where the question names the document by its file's name or number ("PEP 572"): what such a question
# asks ("what is it about") stands in no text, so nothing else in it tells.
NAMED = 0.6
MISSING = 0.1  # most support where it names a document that is not there ("RFC 9999" beside other RFCs)
STRANGE = ("strange_words", "unknown_identifiers", "foreign_names", "foreign_scope")
UNREAD = 0.4  # least support of an answer that no reader read
POSSIBLE = 0.1  # least support of what a reader is asked about
CLEARLY = 0.3  # a question that is so much nearer to the documents than to the language is not about the language
SHORT = 4  # content words
LOG_ODDS = 7.0  # most that either judgement counts for or against: no model is surer than 999 of 1,000


@dataclass(frozen=True)
class SupportModel:
    """A logistic model: ``p = sigmoid(intercept + sum(coefficient * (feature - mean) / scale))``."""

    features: tuple[str, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]
    coefficients: tuple[float, ...]
    intercept: float

    def probability(self, values: Mapping[str, float]) -> float:
        """Support in (0, 1). Raises KeyError where a feature is missing."""
        total = self.intercept
        for name, mean, scale, coefficient in zip(
            self.features, self.means, self.scales, self.coefficients, strict=True
        ):
            total += coefficient * (values[name] - mean) / scale
        return 1.0 / (1.0 + math.exp(-max(-40.0, min(40.0, total))))

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> SupportModel:
        """The model in a parsed ``support_model.json``; other keys are ignored. KeyError where a part is missing."""
        return cls(
            tuple(row["features"]),
            tuple(row["means"]),
            tuple(row["scales"]),
            tuple(row["coefficients"]),
            float(row["intercept"]),
        )


@cache
def support_model(path: Path = MODEL) -> SupportModel:
    """A calibrated model that ships."""
    return SupportModel.from_dict(json.loads(path.read_text(encoding="utf-8")))


def confidence(question: str, retrieval: Retrieval) -> Confidence:
    """Judge a search's result: by its features, and where a reader read it, by that together."""
    if retrieval.confidence is not None and question == retrieval.question:
        return retrieval.confidence
    if not retrieval.passages:
        return Confidence(0.0, 0.0, False)
    values = support_features(question, retrieval)
    probability = support_model().probability(values)
    if retrieval.passages[0].kind in CODE_KINDS:
        probability = support_model(CODE_MODEL).probability(of_code(question, retrieval, values, probability))
    elif retrieval.readings:
        probability = support_model(CONFIDENCE_MODEL).probability(combined(question, retrieval, probability))
    documents = [p.document for p in retrieval.passages]
    if missing_names(question, documents, "\n".join(p.text for p in retrieval.passages)):
        probability = min(probability, MISSING)
    strange = sum(values[name] for name in STRANGE)
    if retrieval.lacking and all(p.kind in CODE_KINDS for p in retrieval.passages):
        probability = min(probability, MISSING)  # what only mentions a name does not say what it is
    called = documents[0] in retrieval.called
    named = called or (strange < 1 and is_named(documents[0], question))
    if retrieval.readings:  # "When was PEP 572 withdrawn?" names it too, and the reader can tell
        asked = {stem for term in question_terms(question) for stem in term.stem.split()}
        named = named and asked <= text_stems(path_words(documents[0]))
    return Confidence(probability, strange, named)


def worth_reading(found: Retrieval) -> bool:
    """Whether a reader's word can change the answer: a few sentences tell what is asked for, the best passage is prose,
    and the search's evidence does not rule an answer out."""
    if not found.passages or found.passages[0].kind in CODE_KINDS or not told_at_once(found.question):
        return False
    return support_model().probability(support_features(found.question, found)) >= POSSIBLE


def of_code(question: str, retrieval: Retrieval, values: Mapping[str, float], support: float) -> dict[str, float]:
    """What the model of documented code looks at.

    - ``support``: log odds of the support model's probability;
    - ``beside``: how much nearer the question is to one about a language than to the documents and what they are known
      to answer; not below ``-CLEARLY``, which it is where the question writes a document's name as code writes it;
    - ``long``: content words beyond ``SHORT``, at most five: a long question tells a task of its own, where one about
      the language is short; among short ones their number says nothing;
    - ``unknown``: as in ``support_features``.
    """
    written = {f".{term.text.lower()}" for term in question_terms(question) if term.identifier}
    named = any(f".{p.document.lower()}".endswith(tuple(written)) for p in retrieval.passages)
    nearer = -CLEARLY if named else values["top_language"] - values["best_match"]
    return {
        "support": log_odds(support),
        "beside": max(-CLEARLY, nearer),
        "long": min(5.0, max(0.0, values["terms"] - SHORT)),
        "unknown": values["unknown"],
    }


def combined(question: str, retrieval: Retrieval, support: float) -> dict[str, float]:
    """What the confidence model looks at.

    - ``reader``: log odds of the reader's best probability;
    - ``unlike``: 1 where no sentence that it points into has anything of the kind of fact that is asked for;
    - ``support``: log odds of the support model's probability.
    """
    kind = fact_asked(question)
    judged = [(may_tell(kind, _pointed_at(retrieval, one)), one.answerable) for one in retrieval.readings]
    like, best = max(judged, default=(True, 0.0))
    return {"reader": log_odds(best), "unlike": float(not like), "support": log_odds(support)}


def _pointed_at(retrieval: Retrieval, reading: WindowReading) -> str:
    """The sentences that a reading points into; its whole window where it points at none."""
    said = [
        s.text
        for s in retrieval.sentences
        if s.passage == reading.passage and s.start < reading.answer_end and reading.answer_start < s.end
    ]
    passage = retrieval.passages[reading.passage]
    return " ".join(said) or passage.text[reading.start - passage.start : reading.end - passage.start]


def log_odds(probability: float) -> float:
    """Of a probability, within ``LOG_ODDS`` of even."""
    inside = min(max(probability, 1e-9), 1 - 1e-9)
    return max(-LOG_ODDS, min(LOG_ODDS, math.log(inside / (1 - inside))))


def support_features(question: str, retrieval: Retrieval) -> dict[str, float]:
    """Evidence for support: what the search measured against the corpus, and what the passages themselves say.

    Beside ``Retrieval.features`` (``data_jobs.retrieval.features.FEATURES``):

    - ``foreign_names``: proper names in the question (``New York`` is one) that no passage writes that way;
    - ``foreign_acronyms``: the same for words in capitals, in any case;
    - ``unwritten_identifiers``: code-like names in the question that no passage holds as written;
    - ``foreign_scope``: 1 where the question ends in "in X", "with X", "using X" and no passage speaks of X;
    - ``reference``: share of the passages that document code: such texts are terse, and resemble questions less;
    - ``best_match``: highest cosine of the question and either a sentence of the passages or a question that a
      document is known to answer;
    - ``best_sentence``: highest dense plus lexical score of a sentence;
    - ``covered_one``, ``covered_all``: share of the plain content words in the best passage, and in all together.
    """
    terms = question_terms(question)
    texts = [(p.context, p.title, p.document, path_words(p.document), p.text) for p in retrieval.passages]
    per_passage = [frozenset().union(*map(term_set, own)) for own in texts]
    together = frozenset().union(*per_passage)
    whole = "\n".join(part for own in texts for part in own)
    plain = [term for term in terms if not term.identifier]
    return {
        **{name: min(value, MOST.get(name, value)) for name, value in retrieval.features.items()},
        "foreign_names": min(2.0, sum(t.proper and not t.acronym and not _written(t, whole) for t in terms)),
        "foreign_acronyms": min(2.0, sum(t.acronym and not _written(t, whole) for t in terms)),
        "unwritten_identifiers": min(2.0, sum(t.identifier and not _written(t, whole) for t in terms)),
        "foreign_scope": float(_foreign_scope(question, whole, together)),
        "reference": sum(p.kind in CODE_KINDS for p in retrieval.passages) / max(1, len(retrieval.passages)),
        "best_match": max(retrieval.features["top_sentence"], retrieval.features["top_asked"]),
        "best_sentence": max((s.dense + 0.5 * s.lexical for s in retrieval.sentences), default=0.0),
        "covered_one": max((_share(plain, stems) for stems in per_passage), default=0.0),
        "covered_all": _share(plain, together),
    }


def _written(term: Term, text: str) -> bool:
    """Whether the text writes the name as the question does: identifiers and acronyms in any case, proper names in
    this case (the verb ``go`` is no ``Go``) or in capitals."""
    if term.identifier:
        return term.text.lower() in text.lower()
    forms = {term.text, term.text.upper()}
    flags = re.IGNORECASE if term.acronym else re.NOFLAG
    return any(re.search(rf"(?<![^\W_]){re.escape(form)}(?![^\W_])", text, flags) for form in forms)


def _foreign_scope(question: str, text: str, stems: frozenset[str]) -> bool:
    match = _SCOPE.search(question.rstrip(" ?.!\t\r\n")[-_TAIL:])
    if not match or is_stop_word(match.group(1)):
        return False
    name = match.group(1)
    return name.lower() not in text.lower() and not set(expand(name)) & stems


def _share(terms: list[Term], stems: frozenset[str]) -> float:
    return sum(set(term.stem.split()) <= stems for term in terms) / len(terms) if terms else 0.0
