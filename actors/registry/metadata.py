"""What a model version must say about itself (``plinth.json``) before it may be registered."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from datetime import date
from typing import Any

from cluster.core.errors import PolicyRefusedError, UsageError
from cluster.core.sections.serve import ServeSection
from cluster.core.sections.tiers import ENGINES, names_taken
from cluster.core.storage import NAME, check_name

RESERVED = names_taken(ServeSection().tiers)  # as shipped: a registry serves services of any configuration
FORMATS = ("points", "grounded", "text")
MAX_BYTES = 65_536
SHA256 = re.compile(r"^[0-9a-f]{64}$")
REFERENCE = re.compile(r"^[^\s@]+@[^\s@]+$")

# Field -> what is accepted, in words.
REQUIRED = {
    "format": f"one of {', '.join(FORMATS)}",
    "tier": "the model's name",
    "context_tokens": "a whole number of tokens above 0",
    "tokenizer_sha256": "the sha256 of tokenizer.json, 64 hex digits",
    "parameters": "a whole number above 0",
    "license": "a licence, in words or as an SPDX id",
    "knowledge_cutoff": "an ISO date, or empty when the model knows nothing beyond the index",
    "provenance": "an object naming what it was made from",
}
# What `provenance` must name, as name@version; a model from elsewhere names its `source`.
MADE_FROM = {"points": ("checkpoint", "tokenizer", "dataset"), "grounded": ("checkpoint", "examples"), "text": ()}


def check_tier_name(name: str, taken: Collection[str] = RESERVED) -> str:
    """A name that a registered model, and so a tier, may have.

    Args:
        taken: names that mean something else to clients (``names_taken`` of the configuration, where it is known).

    Raises:
        UsageError: it is no usable name.
        PolicyRefusedError: clients know it as something else.
    """
    if check_name(name) in taken:
        raise PolicyRefusedError(f"{name!r} is a reserved name: choose another (reserved are {', '.join(taken)})")
    return name


def check_metadata(name: str, metadata: Mapping[str, Any]) -> None:
    """Refuse incomplete or wrong metadata of a model called ``name``; unknown further fields are kept.

    Raises:
        UsageError: names the first field that is missing or wrong, and what it should be.
    """
    check_tier_name(name)
    for field, meaning in REQUIRED.items():
        if field not in metadata:
            raise UsageError(f"model {name}: the metadata lacks {field!r} ({meaning})", field=field)
        if not _fits(field, metadata[field], name):
            raise UsageError(
                f"model {name}: {field!r} is {str(metadata[field])[:80]!r} but must be {meaning}", field=field
            )
    provenance = metadata["provenance"]
    for part in MADE_FROM[metadata["format"]]:
        if not isinstance(provenance.get(part), str) or not REFERENCE.fullmatch(provenance[part]):
            raise UsageError(
                f"model {name}: the metadata lacks 'provenance.{part}' (the {part} it was made from, as name@version)",
                field=f"provenance.{part}",
            )
    if metadata.get("engine", ENGINES[0]) not in ENGINES:
        raise UsageError(f"model {name}: 'engine' must be one of {', '.join(ENGINES)}", field="engine")
    if len(json.dumps(metadata, default=str)) > MAX_BYTES:
        raise UsageError(f"model {name}: the metadata is larger than {MAX_BYTES} bytes")


def _fits(field: str, value: Any, name: str) -> bool:
    if field in ("context_tokens", "parameters"):
        return isinstance(value, int) and not isinstance(value, bool) and value > 0
    if field == "provenance":
        return isinstance(value, dict) and bool(value)
    if not isinstance(value, str):
        return False
    if field == "format":
        return value in FORMATS
    if field == "tier":
        return value == name and NAME.fullmatch(value) is not None
    if field == "tokenizer_sha256":
        return SHA256.fullmatch(value) is not None
    if field == "knowledge_cutoff":
        return not value or _is_date(value)
    return bool(value.strip())


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text[:10])
    except ValueError:
        return False
    return True
