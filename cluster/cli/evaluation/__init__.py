"""plinth eval: suites over the running service and over parts of the data plane."""
