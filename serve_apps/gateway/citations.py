"""What of a citation is text, and so has to pass a guard before it leaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from cluster.core.records import Citation
from serve_apps.guards.characters import visible

TEXTS = 4  # of one citation


def texts_of(citations: Sequence[Citation]) -> list[str]:
    """The texts of all citations, ``TEXTS`` of each, as a reader sees them."""
    return [visible(text) for one in citations for text in (one.document, one.title, one.source, one.text)]


def shown(citations: Sequence[Citation], checked: Sequence[str]) -> list[dict[str, Any]]:
    """Citations as they leave, with their checked texts (in the order of ``texts_of``) put in place."""
    found = []
    for place, citation in enumerate(citations):
        document, title, source, text = checked[TEXTS * place : TEXTS * (place + 1)]
        found.append(replace(citation, document=document, title=title, source=source, text=text).to_dict())
    return found
