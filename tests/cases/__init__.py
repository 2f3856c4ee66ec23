"""Cases made after reports of other tools: a folder each with its input and what is expected of it."""
