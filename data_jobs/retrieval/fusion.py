"""From dense and lexical scores to one order of passages.

Scores are added, not ranks: reciprocal ranks throw away how far apart two hits are, and on terse texts the lexical list
is much the weaker one (measured: plain RRF is worse than the dense list alone). A cosine counts as it is; BM25 is
divided by the question's idf mass, which makes it comparable between questions and corpora; a static rank is added.
What a document is known to be asked for counts like its text: the better of the two, and half the other, for what both
say is surer than what one says. But questions resemble each other by their form alone, so that a middling cosine of two
questions says less than one of question and text.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cluster.core.records import CODE_KINDS, Chunk

# The weights of BM25 beside a cosine. Terse reference texts share few words with a question, so BM25 says less of them.
LEXICAL_WEIGHT = 0.3
# The weight for prose, whose documents a smaller network embeds than questions. Chosen on SciFact's training split
# (nDCG@10 0.739 at 0.5, 0.741 at 0.7) and half of SQuAD's titles (recall@5 0.973, 0.977 at 0.7, 0.973 at 0.9, 0.965 at
# 1.2); on the other half recall@5 is 0.942 at both and nDCG@10 0.892 and 0.897.
LEXICAL_WEIGHT_PROSE = 0.7
# The static rank was fitted before documents had questions; since they have, it counts less.
PRIOR_WEIGHT = 0.75
MAX_PER_OWNER = 2
# A known question with this cosine to the one asked counts as much as a text with the same cosine. With a higher one it
# counts for more than a text, with a lower one for less: its distance from here is multiplied by the slope.
ASKED_EVEN = 0.8
ASKED_SLOPE = 1.4
# What the weaker of text and known questions counts beside the better, multiplied by the share of documents that have
# some. Chosen on three sets of questions about the standard library, all of whose documents have questions (of 292
# first names 219 are right without it, 227 at 0.4, 0.5 and 0.7, 225 at 1).
BOTH = 0.5
# What a document without known questions gets instead, multiplied by the same share, and what its text counts for the
# questions that it lacks (first right of 96 whose documents' questions were left out: 16 at 0, 44 at 0.7, 49 at 0.8; 42
# where the weaker did not count).
SILENT = 0.1
UNASKED = 0.8


def static(prior: np.ndarray, known: np.ndarray, share: float) -> np.ndarray:
    """What no question changes about a chunk's score, float32 [rows].

    Without the second part, a document that nobody wrote questions for would lose to the best of the many questions
    written for others, the more the larger their share. Where no document has questions, it is nothing.

    Args:
        prior: static ranks in units of cosine.
        known: whether questions are known that the chunk's document answers.
        share: share of the documents of which some are known.
    """
    rank: np.ndarray = PRIOR_WEIGHT * prior + SILENT * share * ~known
    return rank.astype(np.float32)


def questioned(chunks: Sequence[Chunk], questions: Sequence[Sequence[str]]) -> tuple[np.ndarray, float]:
    """Of chunks of which these questions are known: whether their documents have any, bool [chunks], and the share of
    the documents that have."""
    asked = {c.document for c, own in zip(chunks, questions, strict=True) if own}
    known = np.array([c.document in asked for c in chunks], dtype=bool)
    return known, len(asked) / max(1, len({c.document for c in chunks}))


def static_ranks(chunks: Sequence[Chunk], known: np.ndarray, share: float) -> np.ndarray:
    """``static`` of chunks, float32 [chunks]; ``known`` and ``share`` are ``questioned``."""
    return static(np.array([c.prior for c in chunks], dtype=np.float32), known, share)


def lexical_weights(chunks: Sequence[Chunk]) -> np.ndarray:
    """What BM25 counts for each chunk beside its cosine, float32 [chunks]."""
    weights = [LEXICAL_WEIGHT if chunk.kind in CODE_KINDS else LEXICAL_WEIGHT_PROSE for chunk in chunks]
    return np.array(weights, dtype=np.float32)


def fused(
    dense: np.ndarray,
    lexical: np.ndarray,
    asked: np.ndarray,
    rank: np.ndarray,
    weights: np.ndarray | float,
    silent: np.ndarray,
    share: float,
) -> np.ndarray:
    """Fused scores, float32 [rows].

    Args:
        dense: cosines of question and chunk.
        lexical: BM25 over the question's idf mass.
        asked: highest cosines of the question and those that the chunk is known to answer; 0 where none is known.
        rank: of the same chunks (``static``).
        weights: of the same chunks (``lexical_weights``).
        silent: whether no question is known that the chunk's document answers (``questioned``).
        share: share of the documents of which some are known; at 0, the weaker of both counts nothing.
    """
    told = known(asked)
    weaker = np.where(asked > 0, np.minimum(dense, told), UNASKED * dense * silent)
    scores = np.maximum(dense, told) + BOTH * share * np.maximum(weaker, 0) + weights * lexical + rank
    return np.asarray(scores, dtype=np.float32)


def known(asked: np.ndarray) -> np.ndarray:
    """What questions with these cosines to the one asked count beside the cosine of a text, float32 [rows]."""
    return np.asarray(ASKED_EVEN + ASKED_SLOPE * (asked - ASKED_EVEN), dtype=np.float32)


def diverse(rows: Sequence[int], chunks: Sequence[Chunk], k: int) -> list[int]:
    """The first ``k`` of ``rows`` with one passage per document and few of one class, counted with its methods.

    A question is answered by a class or one of its methods; its other methods would only push other answers out.
    """
    kept: list[int] = []
    documents: set[str] = set()
    owners: dict[str, int] = {}
    for row in rows:
        chunk = chunks[row]
        owner = chunk.document.rpartition(".")[0] if chunk.kind == "method" else chunk.document
        if chunk.document in documents or owners.get(owner, 0) >= MAX_PER_OWNER:
            continue
        documents.add(chunk.document)
        owners[owner] = owners.get(owner, 0) + 1
        kept.append(row)
        if len(kept) == k:
            break
    return kept
