"""From sources to a clean, deduplicated, redacted dataset and its index."""
