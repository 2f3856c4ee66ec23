"""Text as such: normalising it, its language, sentences, chunks, questions. No Ray."""
