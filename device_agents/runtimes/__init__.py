"""Runtimes: load(path, settings) gives a model with step(); one a file, imported only when asked for."""
