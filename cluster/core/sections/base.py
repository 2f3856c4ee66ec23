"""What a section of the configuration is: frozen, unknown keys refused, a line of doc under each field."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Frozen values; ``model_fields`` carries the line under each field as its description."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
