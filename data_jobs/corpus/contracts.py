"""The declared form of every stage's rows: columns, types, and the rules that hold in each of them.

``CLEANED`` is what the first pass stores, ``DOCUMENTS`` what a dataset holds; both are checked when they are written, a
dataset again when it is read. What a file of a source must be is the extractors' part: there, bad records are
quarantined; here they are refused.
"""

from __future__ import annotations

import pyarrow as pa

from data_jobs.corpus.validation import (
    SENSITIVITIES,
    Contract,
    label,
    not_null,
    of_size,
    one_of,
    present,
    printable,
    sha256,
    span,
)
from data_jobs.filters.dedup import PERMUTATIONS

DOCUMENT_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("id", "title", "text", "source", "source_name", "kind", "signature")]
    + [("aliases", pa.list_(pa.string())), ("part_of", pa.string()), ("references", pa.int64())]
    + [("questions", pa.list_(pa.string()))]
    + [(name, pa.string()) for name in ("licence", "owner", "sensitivity", "language", "file_sha256")]
    + [("span", pa.list_(pa.int64())), ("steps", pa.list_(pa.string()))]
    + [("copies", pa.list_(pa.list_(pa.string()))), ("access", pa.string())]
)
QUARANTINE_SCHEMA = pa.schema([(name, pa.string()) for name in ("source", "record", "reason", "detail")])
DROPPED_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("document", "source", "stage", "reason", "kept")]
    + [("similarity", pa.float64()), ("detail", pa.string())]
)
_SKETCH_FIELDS = [("exact", pa.string()), ("group", pa.string()), ("minhash", pa.binary())]
_SKETCH_FIELDS += [("subject", pa.string()), ("numbers", pa.string())]
# What was counted while the text was at hand: its words, and the type of every piece of personal data taken out.
_COUNT_FIELDS = [("words", pa.int64()), ("pii", pa.list_(pa.string()))]
CLEAN_SCHEMA = pa.schema([*DOCUMENT_SCHEMA, *_SKETCH_FIELDS, *_COUNT_FIELDS])

_DOCUMENT_RULES = (
    *present("id", "text", "source", "kind"),
    *not_null("title", "source_name"),
    *printable("id", "title"),
    one_of("sensitivity", SENSITIVITIES),
    sha256("file_sha256"),
    span("span"),
    label("access"),
)
# Datasets of earlier versions of this program lack the columns of governance and provenance, copies and labels.
_LATER = frozenset(
    ("licence", "owner", "sensitivity", "language", "file_sha256", "span", "steps", "questions", "copies", "access")
)

DOCUMENTS = Contract("documents", DOCUMENT_SCHEMA, _DOCUMENT_RULES, unique="id", optional=_LATER)
CLEANED = Contract("cleaned", CLEAN_SCHEMA, (*_DOCUMENT_RULES, sha256("exact"), of_size("minhash", PERMUTATIONS * 4)))
