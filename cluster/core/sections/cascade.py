"""Asking the next larger tier where an answer is not borne out (serve_apps/routing/cascade.py)."""

from __future__ import annotations

from pydantic import Field

from cluster.core.sections.base import Section


class CascadeSection(Section):
    """When `auto` asks a second tier. Without a larger tier that passed its gate there is nothing to ask, on or off."""

    on: bool = True
    """Where an answer of the tier that `auto` chose is not supported, ask the next larger one, once, if its usual time
    fits in what is left of the request's deadline. Free text of a tier that may be passed over so is sent only once
    it was judged, so it begins later."""
    most_price: float = Field(0.0, ge=0)
    """Highest price of a thousand tokens (`price` of a tier) that is paid for a second answer; 0: any."""
