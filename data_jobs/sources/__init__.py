"""Where documents come from: the standard library's docstrings, or a folder of files."""
