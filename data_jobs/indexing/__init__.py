"""The parts of building an index and keeping it fresh. Searching it is `retrieval`."""
