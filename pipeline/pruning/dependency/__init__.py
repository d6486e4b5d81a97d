"""Channel dependency graph: coupled channels as groups."""
