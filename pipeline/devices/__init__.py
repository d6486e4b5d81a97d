"""Boards: the inventory, the way to them, their agents' answers, what they lack."""
