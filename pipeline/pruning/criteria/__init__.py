"""How much a channel matters: one criterion a file, named for what the user types."""
