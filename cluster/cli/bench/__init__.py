"""plinth bench: one file a benchmark."""
