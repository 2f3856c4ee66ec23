"""What may be used for what, and what was forgotten."""
