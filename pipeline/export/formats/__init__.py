"""Formats of model files: one a file, named as an inventory's ``format`` names it.

Each has ``open_format(base, example, *, support, on_note)``, which returns a ``Format``, and
``require_usable(data, support, *, shown)``, which raises ModelError for a file that no device could load.
"""
