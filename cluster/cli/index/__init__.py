"""plinth index: build, list, roll back, search, watch."""
