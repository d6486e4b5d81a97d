"""One run from a config to artifacts: rounds of search, training, export, verification."""
