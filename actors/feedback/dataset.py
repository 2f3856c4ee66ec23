"""Feedback as a versioned dataset: what may be used to train models, and nothing else of it.

Left out is what nobody agreed to, and what rests on documents that not everybody may read: what learns from it would
answer everybody. Who said it, of which tenant, is in no row.
"""

from __future__ import annotations

import json
import posixpath
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from actors.feedback.book import Feedback
from cluster.core.errors import BadInputError
from cluster.core.records import Manifest, stable_hash
from cluster.core.storage import Store

KIND, ALIAS = "feedback", "latest"
ROWS, PAIRS = "rows.jsonl", "preferences.jsonl"


def publish(store: Store, said: Iterable[Feedback], name: str = KIND) -> Manifest:
    """Publish ``feedback/<name>``: all rows, and as pairs (``plinth train preference``) the corrections of answers
    whose question is known. The same rows are the same version.

    Raises:
        BadInputError: nothing may be used.
        EnvironmentFaultError: the store cannot be written.
    """
    told = list(said)
    left = Counter(filter(None, map(_left_out, told)))
    rows = sorted((row(one) for one in told if not _left_out(one)), key=lambda one: (one["day"], stable_hash(one)))
    if not rows:
        raise BadInputError(
            f"of {len(told)} feedback nothing may be used: {left['consent']} without consent, {left['access']} about "
            "documents that not everybody may read"
        )
    pairs = [{"prompt": one["question"], "chosen": one["correction"], "rejected": one["answer"]} for one in rows
             if one["question"] and one["correction"] and one["correction"] != one["answer"]]  # fmt: skip
    key = stable_hash([KIND, name, rows])
    folder = posixpath.join(store.staging(key), "artefact")
    for file, lines in ((ROWS, rows), (PAIRS, pairs)):
        store.write(posixpath.join(folder, file), "".join(f"{json.dumps(line)}\n" for line in lines).encode())
    counts: dict[str, Any] = {"rows": len(rows), "pairs": len(pairs), "left_out": dict(left)}
    counts |= {way: sum(one["rating"] == way for one in rows) for way in ("up", "down")}
    made = store.publish(KIND, name, folder, run_key=key, counts=counts)
    store.move_alias(KIND, name, ALIAS, made.version, why=f"{len(rows)} rows with consent")
    return made


def row(said: Feedback) -> dict[str, Any]:
    """One feedback as the dataset has it."""
    of = said.made_of
    return {
        "day": datetime.fromtimestamp(said.at, UTC).date().isoformat(), "answer_id": said.answer_id,
        "rating": said.rating, "question": said.question, "answer": said.answer, "correction": said.correction,
        "comment": said.comment, "tier": of.tier, "model_version": of.model_version, "collection": of.collection,
        "index_version": of.index_version, "documents": sorted({document for document, _ in of.documents}),
    }  # fmt: skip


def _left_out(said: Feedback) -> str:
    if not said.consent:
        return "consent"
    return "access" if said.made_of.labelled else ""
