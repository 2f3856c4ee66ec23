"""Which documents are kept out of training: a pure function of a document's id, the same in every stage and forever."""

from __future__ import annotations

import hashlib


def is_held_out(document_id: str, share: float) -> bool:
    """Whether a document belongs to the held-out ``share`` (0 to 1) of the corpus.

    The hash of the id decides, so a document keeps its side when the corpus changes, and a larger share holds out every
    document that a smaller one does.
    """
    digest = hashlib.sha256(f"held-out\0{document_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2.0**64
