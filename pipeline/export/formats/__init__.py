"""Formats of model files: one a file, named as an inventory's ``format`` names it.

What each declares: :mod:`pipeline.export.format_plugin`; what it writes networks with: :mod:`pipeline.export.format`.
"""
