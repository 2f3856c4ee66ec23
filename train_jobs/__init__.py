"""How models are trained and how answers are made and judged."""
