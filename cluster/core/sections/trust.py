"""Who may use the service, and what is kept about it (actors/ledger, actors/audit, serve_apps/gateway)."""

from __future__ import annotations

from pydantic import Field

from cluster.core.sections.audit import AuditSection
from cluster.core.sections.base import Section
from cluster.core.sections.feedback import FeedbackSection, ReviewSection
from cluster.core.sections.ledger import LedgerSection


class TrustSection(Section):
    """Keys, budgets and books."""

    keys: bool = True
    """Every request needs a key (`plinth keys`; pages get a session). Off only where nobody but this machine's user
    can reach the service: everybody is then the tenant `default` and may do everything."""
    key_check_s: float = Field(2.0, gt=0, le=5)
    """Seconds between two looks of a gateway at the book of keys: this is how soon a revoked key ends everywhere."""
    refusals_per_minute: int = Field(100, ge=1)
    """Requests without a key that works, of one address (IPv6: a /64) at one gateway; more of them get 429 until the
    minute is over, at almost no cost. Keys that work are not affected, whatever else comes from their address."""
    streams_per_key: int = Field(256, ge=1)
    """Requests that a key may have under way at once at one gateway, streams above all, where it has no number of its
    own (`plinth keys create --streams`); one more gets 429. Each gateway counts its own."""
    scraping_documents: int = Field(2000, ge=1)
    """A key that is shown about so many different documents within `scraping_hours` is flagged, in the audit log and as
    an alert: it walks the corpus. Nothing is refused for it."""
    scraping_hours: float = Field(24.0, gt=0)
    """Length of the window in which a key's documents are counted, from its first request on."""
    session_days: float = Field(30.0, gt=0)
    """How long a browser stays signed in; a revoked key ends it at once."""
    audit: AuditSection = AuditSection()
    """What is written down about requests and administration."""
    ledger: LedgerSection = LedgerSection()
    """Budgets and usage."""
    feedback: FeedbackSection = FeedbackSection()
    """What people say of answers."""
    review: ReviewSection = ReviewSection()
    """What people are to look at."""
    policies: str = ""
    """A YAML file that says which guard may block, redact, flag or send to the review queue, per tenant and
    collection (as serve_apps/guards/policies.yaml, which holds where this is empty)."""
