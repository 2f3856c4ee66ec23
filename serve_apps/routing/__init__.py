"""Which tier answers: a pure decision on measured quality and latency."""
