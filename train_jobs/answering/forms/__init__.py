"""Forms of answers: one module each, called through one line of the quote tier."""
