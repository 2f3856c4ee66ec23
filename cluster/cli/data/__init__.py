"""plinth data: one file a verb or two."""
