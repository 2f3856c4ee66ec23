"""Evidence for "the corpus can answer this": numbers an abstention rule is fitted on.

Every feature is relative to the corpus at hand (cosines, shares of the question's own idf mass, ranks), so that a rule
fitted on one corpus carries over to another folder of documents.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cluster.core.records import Passage
from data_jobs.retrieval.analysis import expand, fold, is_identifier, joined, term_set, words
from data_jobs.retrieval.lexical import Bm25
from data_jobs.retrieval.names import path_words

FEATURES = {
    "top_dense": "highest cosine of question and chunk",
    "mean_dense": "mean cosine of the returned passages",
    "dense_margin": "highest cosine minus the cosine of the last returned passage",
    "dense_z": "highest cosine in standard deviations above the corpus mean for this question",
    "top_lexical": "highest BM25 divided by the question's idf mass",
    "top_sentence": "highest cosine of question and a sentence of the passages",
    "top_asked": "highest cosine of question and one that a candidate is known to answer; 0 where none is known",
    "top_language": "highest cosine of the question and one about a language and its tools; 0 without documented code",
    "coverage_1": "idf share of the question's words found in the first passage",
    "coverage_3": "idf share of the question's words found in the first three passages",
    "unknown": "idf share of the question's words that occur nowhere in the corpus",
    "unknown_identifiers": "number of code-like names in the question that occur nowhere in the corpus",
    "strange_words": "number of words strange to the corpus: unknown, not everyday English, not misspelt (``strange``)",
    "terms": "number of content words in the question",
    "log_chunks": "natural logarithm of the number of chunks: the best of many unrelated chunks outscores that of few",
}


@dataclass(frozen=True)
class QuestionTerms:
    """A question as the lexical index sees it.

    Attributes:
        weighted: index terms to search with, and how often the question says them.
        content: the content words' own terms with their idf (unknown words count as the rarest).
        unknown: content terms that occur nowhere in the corpus.
        unknown_identifiers: code-like names, as typed, that occur nowhere in the corpus.
    """

    weighted: dict[str, float]
    content: dict[str, float]
    unknown: tuple[str, ...]
    unknown_identifiers: tuple[str, ...]

    @property
    def mass(self) -> float:
        """Sum of the idf of the question's content words: what BM25 scores are divided by."""
        return sum(self.content.values())


def question_terms(question: str, index: Bm25) -> QuestionTerms:
    """Analyse a question against an index's vocabulary."""
    tokens = words(question)
    weighted: dict[str, float] = {}
    content: dict[str, float] = {}
    strange: list[str] = []
    for token in tokens:
        parts = expand(token)
        for term in parts:
            weighted[term] = weighted.get(term, 0.0) + 1.0
        # A dotted name is known by its last part too: documents seldom spell out where a thing comes from.
        if is_identifier(token) and not {fold(token), *expand(token.rpartition(".")[2])[-1:]} & index.vocabulary.keys():
            strange.append(token)
        for term in parts[:-1] if len(parts) > 1 else parts:
            content[term] = index.weight(term)
    for pair in joined(tokens):
        if pair in index.vocabulary and pair not in weighted:
            weighted[pair] = 1.0
    unknown = tuple(term for term in content if term not in index.vocabulary)
    return QuestionTerms(weighted, content, unknown, tuple(strange))


def covered(content: dict[str, float], texts: Sequence[str]) -> float:
    """idf share of the content terms that occur in at least one of the texts."""
    mass = sum(content.values())
    if not mass:
        return 0.0
    present = [term_set(text) for text in texts]
    return sum(weight for term, weight in content.items() if any(term in own for own in present)) / mass


def features(
    terms: QuestionTerms,
    passages: Sequence[Passage],
    cosines: np.ndarray,
    background: np.ndarray,
    lexical: np.ndarray,
    top_sentence: float,
    top_asked: float = 0.0,
    top_language: float = 0.0,
    strange_words: int = 0,
) -> dict[str, float]:
    """The features of one search (see ``FEATURES``).

    Args:
        terms: of the question.
        passages: returned passages, best first.
        cosines: of the question and the candidates.
        background: cosines of the question and a fixed sample of all chunks.
        lexical: BM25 over the question's idf mass, of all chunks.
        top_sentence: highest sentence cosine.
        top_asked: highest cosine of the question and a known one.
        top_language: highest cosine of the question and one about a language (``beside``).
        strange_words: how many words are strange to the corpus.
    """
    if not passages:
        return dict.fromkeys(FEATURES, 0.0)
    texts = [[p.context, path_words(p.document), p.text] for p in passages[:3]]
    top = float(cosines.max())
    spread = max(float(background.std()), 1e-3)
    dense = [p.dense for p in passages]
    return {
        "top_dense": top,
        "mean_dense": sum(dense) / len(dense),
        "dense_margin": top - dense[-1],
        "dense_z": (top - float(background.mean())) / spread,
        "top_lexical": float(lexical.max()),
        "top_sentence": top_sentence,
        "top_asked": top_asked,
        "top_language": top_language,
        "coverage_1": covered(terms.content, texts[0]),
        "coverage_3": covered(terms.content, [part for own in texts for part in own]),
        "unknown": sum(terms.content[t] for t in terms.unknown) / (terms.mass or 1.0),
        "unknown_identifiers": float(len(terms.unknown_identifiers)),
        "strange_words": float(strange_words),
        "terms": float(len(terms.content)),
        "log_chunks": math.log(max(1, len(lexical))),
    }
