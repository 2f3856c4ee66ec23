"""What is written down about requests and administration, and for how long (actors/audit)."""

from __future__ import annotations

from pydantic import Field

from cluster.core.sections.base import Section


class AuditSection(Section):
    """The audit log: encrypted, chained by hashes, signed; `plinth audit` reads and checks it."""

    on: bool = True
    """Write down the end of every request (who, what route, which versions, which verdicts; never a text), what
    administrators do, and who read the log."""
    required: bool = False
    """Answer nothing that is not in the log: a request is written down before its answer begins, and gets 503 while
    the log cannot be written. Off: what cannot be written is counted (`plinth_audit_lost_total`) and lost."""
    keep_days: int = Field(365, ge=1)
    """Days that records are kept; whole segments go once all of their records are older."""
    sample: float = Field(0.0, ge=0, le=1)
    """Share of the answered requests whose question and answer are kept too, without personal data; none with
    `"store": false`."""
    segment_mb: int = Field(16, ge=1, le=1024)
    """Size (MiB) at which a segment of the log is signed and the next one begun; each day has segments of its own."""
    verify_hours: float = Field(24.0, ge=0)
    """Hours between two checks of the whole log by the running service (`plinth_audit_damaged`); 0: never."""
