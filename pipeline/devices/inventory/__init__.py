"""The inventory: which boards there are."""
