"""A corpus on its way: cleaning records, blocks of work, the dataset's files, books and contracts. No Ray."""
