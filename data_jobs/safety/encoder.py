"""The encoder whose vectors the safety heads read: MiniLM, taught to tell attacks and harmful requests from what only
looks like them (``train_jobs/recipes/safety_encoder.py``; ``encoder_model/README.md`` says how). It has nothing to do
with what embeds an index."""

from __future__ import annotations

from pathlib import Path

from cluster.core.sections.data import IndexSection
from data_jobs.retrieval.embedder import Embedder, load_embedder
from data_jobs.retrieval.model_files import find_model

FOLDER = Path(__file__).with_name("encoder_model")
SECTION = IndexSection(embedder=str(FOLDER), document_encoder="same")


def encoder_asks() -> str:
    """Whose vectors heads must have been fitted on (``Embedder.asks``), without loading it.

    Raises:
        PlinthError: what ``find_model`` raises.
    """
    return find_model(SECTION).asks


def load_encoder(threads: int = 1) -> Embedder:
    """The shipped one; sets torch's thread count for this process.

    Raises:
        PlinthError: what ``load_embedder`` raises.
    """
    return load_embedder(SECTION, threads=threads)
