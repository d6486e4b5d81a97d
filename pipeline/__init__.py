"""Prune a trained CNN by what the user's own board measures."""

__version__ = "0.1.0"
