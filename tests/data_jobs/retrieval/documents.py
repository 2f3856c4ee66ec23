"""A small corpus of every kind of document, written for these tests."""

from cluster.core.records import Document

CORPUS = [
    Document("files", "module files", "Operations on files and trees of files.", "files.py:1", "t", "module"),
    Document(
        "files.copytree", "files.copytree(src, dst)", "Recursively copy a directory tree and return the destination.",
        "files.py:10", "t", "function", "(src, dst)", ("files.api.copytree",), "files", 3,
    ),
    Document(
        "files.Lock", "files.Lock(path)", "A lock that keeps two processes from writing the same file.\n\n"
        "Use it in a with statement. It is released when the block ends.", "files.py:30", "t", "class", "(path)",
        (), "files",
    ),
    Document(
        "files.Lock.acquire", "files.Lock.acquire()", "Wait until the lock is free, then take it.", "files.py:40", "t",
        "method", "()", (), "files.Lock",
    ),
    Document(
        "files.Lock.release", "files.Lock.release()", "Give the lock back. Another process may take it.", "files.py:50",
        "t", "method", "()", (), "files.Lock",
    ),
    Document(
        "garden.md", "Tomatoes", "# Watering\n\nWater tomatoes in the morning.\n\n# Soil\n\nAdd compost in spring.",
        "garden.md",
    ),
    Document("bread.md", "Bread", "Knead the dough for ten minutes. Let it rise until it has doubled.", "bread.md"),
]  # fmt: skip
