"""Fabricated search results for tests of answering: small, explicit, and true to the contracts of a real search."""

from __future__ import annotations

from collections.abc import Sequence

from cluster.core.records import Passage
from data_jobs.retrieval.features import FEATURES
from data_jobs.retrieval.results import Retrieval, ScoredSentence
from data_jobs.text.sentences import sentences

STRONG = {
    "top_dense": 0.75,
    "mean_dense": 0.55,
    "top_sentence": 0.75,
    "coverage_1": 0.8,
    "coverage_3": 0.8,
    "terms": 5.0,
    "log_chunks": 7.0,
}


def passage(
    document: str, text: str, score: float = 1.0, kind: str = "function", start: int = 0, **more: str
) -> Passage:
    return Passage(
        chunk=f"{document}#c0",
        document=document,
        title=more.get("title", document),
        source=f"{document}.txt",
        text=text,
        start=start,
        end=start + len(text),
        score=score,
        dense=min(1.0, 0.7 * score),
        lexical=0.5,
        context=more.get("context", document),
        kind=kind,
    )


def retrieval(
    question: str, passages: Sequence[Passage], dense: float = 0.7, features: dict[str, float] | None = None
) -> Retrieval:
    """Every sentence gets the cosine ``dense`` times its passage's score, falling a little with its place."""
    scored = []
    for index, one in enumerate(passages):
        for place, (start, end) in enumerate(sentences(one.text)):
            cosine = dense * one.score * (1 - 0.01 * place)
            scored.append(
                ScoredSentence(index, one.start + start, one.start + end, one.text[start:end], cosine, 0.5 * one.score)
            )
    return Retrieval(
        question, tuple(passages), tuple(scored), {**dict.fromkeys(FEATURES, 0.0), **STRONG, **(features or {})}
    )


COPYING = (
    passage("shutil.copytree", "Recursively copy a directory tree and return the destination directory.\n\nMore.", 1.0),
    passage("shutil.copy2", "Copy data and metadata. Return the file's destination.", 0.9),
    passage("shutil.copy", "Copy data and mode bits. Return the file's destination.", 0.85, start=40),
    passage("shutil.move", "Recursively move a file or directory to another location.", 0.6),
    passage("shutil.rmtree", "Recursively delete a directory tree.", 0.5),
    passage("os.walk", "Directory tree generator.", 0.4),
)
HANDBOOK = (
    passage(
        "leave.md",
        "# Leave\n\nEmployees have 28 days of paid leave a year. It must be requested two weeks before it starts.\n",
        1.0,
        kind="file",
        title="Leave policy",
    ),
    passage(
        "travel.md",
        "Train journeys of up to six hours are booked in second class.\n- Flights need the approval of a director.\n",
        0.6,
        kind="file",
        title="Travel",
    ),
)
