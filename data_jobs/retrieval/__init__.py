"""Embedder, dense and lexical index, fusion, snapshots, search. No ray."""
