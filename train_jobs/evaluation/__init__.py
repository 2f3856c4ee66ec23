"""Question suites, metrics, and who is measured (in process or over HTTP)."""
