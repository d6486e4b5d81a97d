"""What others do with the same network and budget, to compare with."""
