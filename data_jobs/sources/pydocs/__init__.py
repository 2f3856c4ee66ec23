"""The documentation of Python's standard library as a source: read from this machine's own modules."""
