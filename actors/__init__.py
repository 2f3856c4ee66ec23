"""Durable single-writer state (ledger, audit, registry, release, drift). Nothing needs it yet."""
