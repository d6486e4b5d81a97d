"""Data sources: a file each, with ``load(argument, options) -> Source``; the file's name is what the user types."""
