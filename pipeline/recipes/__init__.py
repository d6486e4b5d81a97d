"""A pruning plan as a file, applied to a network."""
