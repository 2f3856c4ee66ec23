"""What was done, by whom, and what became of it: an append-only log that shows whether anybody changed it."""
