"""One module per file format, all behind one protocol; ``registry`` says which suffix belongs to which."""
