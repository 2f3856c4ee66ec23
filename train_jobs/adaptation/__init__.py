"""Search that learns a corpus: questions of its documents, what is learnt of them, and whether that is a gain."""
