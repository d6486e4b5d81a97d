"""The agent: runs on the board, measures, and does nothing else. Python 3.6, standard library."""
