"""The walk of a request, whom it works with, and its log."""
