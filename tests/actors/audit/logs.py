"""A log of a few segments below a folder, and what the tests of the audit log share."""

from __future__ import annotations

import json
from pathlib import Path

from actors.audit.audit_log import AuditLog
from actors.audit.entries import Entry

TENANTS = ("ann", "bob", "eve")


def log_below(root: Path, segment_bytes: int = 1500) -> AuditLog:
    (root / "audit").mkdir(parents=True, exist_ok=True)
    (root / "keys").mkdir(exist_ok=True)
    return AuditLog(root / "audit", root / "keys" / "audit.json", root / "keys" / "audit.head", segment_bytes)


def filled(root: Path, batches: int = 8) -> AuditLog:
    """Three records a batch, of three tenants; the third is a sample with a key of its own."""
    log = log_below(root)
    for number in range(batches):
        ann, bob, eve = TENANTS
        log.append(
            [
                Entry.of("request", ann, route="/v1/models", status=200, number=number),
                Entry.of("request", bob, route="/v1/search", status=429, number=number),
                Entry.of("sample", eve, single=True, documents=[[f"notes/{number % 3}.md", "notes"]], answer="yes"),
            ]
        )
    return log


def line_records(lines: list[bytes]) -> list[int]:
    """By line of a segment the record that is named when the line is changed: its own, or the one that would follow."""
    named, last = [], 0
    for line in lines:
        row = json.loads(line)
        if "segment" in row:
            last = row["first"] - 1
        named.append(row.get("n", last + 1))
        last = row.get("n", last)
    return named
