"""Vectors of the questions that are shipped for the standard library, shipped too: a newcomer's first index need not
embed 17,273 texts that are the same on every machine.

They are of the shipped embedder, in fp32, and are kept as int8 with a scale for each. An index of any other embedder
does not look at them. ``python -m data_jobs.indexing.shipped_questions`` writes them anew, and a test says when that
is due.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cluster.core.sections.data import IndexSection
from data_jobs.retrieval.embedder import load_embedder
from data_jobs.retrieval.segments import text_key
from data_jobs.sources.pydocs.asked import shipped_questions

FILE = Path(__file__).with_name("shipped_questions.npz")


def shipped_vectors(asks: str, file: Path = FILE) -> tuple[np.ndarray, np.ndarray] | None:
    """``text_key`` (uint8 [questions, 16]) and vector (float16 [questions, dim]) of each shipped question.

    Args:
        asks: of the embedder that an index is built with (``Embedder.asks``); None for any but the one they are of.
    """
    with np.load(file, allow_pickle=False) as stored:
        if str(stored["asks"]) != asks:
            return None
        vectors = stored["vectors"] * stored["scales"][:, None]
        return stored["keys"], vectors.astype(np.float16)


def write(file: Path = FILE) -> int:
    """Embed the shipped questions and replace the file; how many they are."""
    texts = sorted({question for _, question in shipped_questions()})
    embedder = load_embedder(IndexSection(precision="fp32"))
    vectors = embedder.encode(texts, kind="query")
    scales = np.abs(vectors).max(axis=1) / 127
    whole = np.rint(vectors / scales[:, None]).astype(np.int8)
    keys = np.frombuffer(b"".join(map(text_key, texts)), np.uint8).reshape(len(texts), -1)
    np.savez_compressed(file, asks=embedder.asks, keys=keys, vectors=whole, scales=scales)
    return len(texts)


if __name__ == "__main__":
    print(f"{write():,} questions in {FILE.name}")
