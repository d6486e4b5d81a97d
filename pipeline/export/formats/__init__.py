"""Formats of model files: one a file, named as an inventory's ``format`` names it.

Each has ``open_format(base, example, *, limits, on_note)``, which returns a ``Format``, and
``require_usable(data, limits, *, shown)``, which raises ModelError for a file that no device could load.
"""
