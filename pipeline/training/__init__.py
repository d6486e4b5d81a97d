"""Training of a network, whole or cut: one loop, and what it can be told, each in a file of its own."""
