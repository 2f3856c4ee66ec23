"""Runs and models: versions, aliases, history, and their mirror for other tools."""
