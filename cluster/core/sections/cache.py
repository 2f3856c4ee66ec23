"""Answers that are kept for whoever asks the same again (serve_apps/gateway/recall.py)."""

from __future__ import annotations

from pydantic import Field

from cluster.core.sections.base import Section


class CacheSection(Section):
    """Whether and for how long answers are kept.

    Off on a laptop: one person seldom asks the same twice, and who has just changed a prompt or a document wants to see
    what is answered now, not how quickly something is repeated. On where many ask (presets `node` and `cluster`).
    """

    on: bool = False
    """Keep answers in the memory of the gateways' machine, and give them again to whoever asks the same while nothing
    they rest on changed. Refused, cut, degraded and drawn by lot ones are never kept, nor those to a request with
    `"store": false` or the header `cache-control: no-store`."""
    ttl_s: float = Field(3600.0, gt=0)
    """Longest time an answer is given again (s)."""
    mb: int = Field(64, ge=1)
    """Memory (MiB) that the kept answers of the gateways of one machine take at most; those longest unasked make
    room."""
    alike: float = Field(0.0, ge=0, le=1)
    """Least cosine of two single questions for the answer to one to be given to the other, where the documents say the
    same to both, the reader (`retrieval.reader`) does not doubt it, and no number, name or negation is in one alone: it
    saves the model, not the search. `plinth eval run --suite alike` measures it on questions of your own. 0: never."""
