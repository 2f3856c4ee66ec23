"""Recording metrics and showing those of all replicas on one page."""
