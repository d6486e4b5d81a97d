"""From a winning candidate to a folder that can be deployed."""
