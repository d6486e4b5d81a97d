"""Strategies that pick pruning levels: one a file, named for what the user types."""
