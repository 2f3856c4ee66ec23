"""What of a citation is text, and so has to pass a guard before it leaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from cluster.core.records import Citation, Copy
from serve_apps.guards.characters import visible


def texts_of(citations: Sequence[Citation]) -> list[str]:
    """The texts of all citations, of each its own and those of its copies, as a reader sees them."""
    return [
        visible(text)
        for one in citations
        for text in (one.document, one.title, one.source, one.text, *(said for copy in one.also for said in copy))
    ]


def shown(citations: Sequence[Citation], checked: Sequence[str]) -> list[dict[str, Any]]:
    """Citations as they leave, with their checked texts (in the order of ``texts_of``) put in place."""
    found = []
    texts = iter(checked)
    for citation in citations:
        document, title, source, text = (next(texts) for _ in range(4))
        also = tuple(Copy(next(texts), next(texts), next(texts)) for _ in citation.also)
        one = replace(citation, document=document, title=title, source=source, text=text, also=also)
        found.append(one.to_dict())
    return found
