"""Training of a network, whole or cut: one loop, and its parts, each in a file of its own."""
