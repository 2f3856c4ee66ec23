"""What an actor answers while it gives way to one of newer code."""

from __future__ import annotations

from cluster.core.errors import PlinthError


class DrainingError(PlinthError):
    """This server gives way to another; nothing of the call was done. Ask for the one that runs now."""
