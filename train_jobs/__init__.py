"""How answers are made and judged; training comes with the first model."""
