"""What a section of the configuration is: frozen, unknown keys refused, a line of doc under each field."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Frozen values; ``model_fields`` carries the line under each field as its description."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def postgresql_url(url: str) -> str:
    """The address of a database, or nothing. A configuration is written into manifests and reports, where no password
    may stand.

    Raises:
        ValueError: it names no PostgreSQL database, or holds a password.
    """
    if not url:
        return url
    parts = urlsplit(url)
    if parts.scheme.partition("+")[0] not in ("postgresql", "postgres") or not parts.path.strip("/"):
        raise ValueError("write postgresql://user@host/name, with the name of the database")
    if parts.password is not None or "password=" in parts.query:
        raise ValueError("no password in it: put that into ~/.pgpass, or PGPASSWORD of the head")
    return url
