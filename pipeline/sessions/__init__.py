"""The ways to a board: a narrow seam, put() and exchange(), with two implementations."""
