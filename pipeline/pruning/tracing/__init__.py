"""Record a network's forward pass as a graph of operators."""
