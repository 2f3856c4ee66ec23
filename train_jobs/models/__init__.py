"""The models that are trained: their sizes and their forward pass."""
