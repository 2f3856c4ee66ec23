"""Durable single-writer state: training runs, the model registry and its mirror; pure decisions in `policies`."""
