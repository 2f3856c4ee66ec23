"""One entry of the catalogue of sources: what is declared about a source, by its owner or by Plinth."""

from __future__ import annotations

import datetime
import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from cluster.core.access import Access
from data_jobs.extractors.registry import KINDS

Use = Literal["retrieval", "pretraining", "fine-tuning"]
_REMOTE = re.compile(r"([a-z][a-z0-9+.-]*)://", re.I)


class CatalogueEntry(BaseModel):
    """A source as it is declared. An empty ``approved_by`` means that nobody approved it."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True, use_attribute_docstrings=True)

    name: str
    location: str = Field(min_length=1, max_length=4000)
    """Where it is: a folder, a glob, a file, or a URL of the schemes https, s3, gs, hf."""
    format: str = "auto"
    """`auto`, or the one format that is read; files of other formats are quarantined."""
    owner: str = Field(min_length=1, max_length=200)
    """Who answers for it."""
    licence: str = Field(min_length=1, max_length=200)
    """SPDX expression."""
    sensitivity: Literal["public", "internal", "restricted"]
    """How sensitive it is."""
    access: str = ""
    """Who may read it: a mapping with `tenant` and `groups`; kept as the label's text."""
    approved_by: str = ""
    """Who approved it."""
    approved_on: datetime.date | None = None
    """The day from which on the approval holds."""
    uses: tuple[Use, ...] = ()
    """What it may be used for."""

    @field_validator("format")
    @classmethod
    def _known_format(cls, value: str) -> str:
        if value not in ("auto", *KINDS):
            raise ValueError(f"there is no format {value!r}; there are auto, {', '.join(KINDS)}")
        return value

    @field_validator("access", mode="before")
    @classmethod
    def _a_label(cls, value: Any) -> str:
        return Access.of_mapping(value).text

    @field_validator("location")
    @classmethod
    def _usable_location(cls, value: str) -> str:
        scheme = _REMOTE.match(value)
        if scheme and scheme[1].lower() not in ("https", "s3", "gs", "hf"):
            raise ValueError(f"{scheme[1]}:// is not read; there are https, s3, gs, hf and paths")
        return value

    @property
    def remote(self) -> str:
        """The scheme of its location, empty for a path."""
        found = _REMOTE.match(self.location)
        return found[1].lower() if found else ""

    def to_dict(self) -> dict[str, Any]:
        """Its fields as plain JSON."""
        return self.model_dump(mode="json")
