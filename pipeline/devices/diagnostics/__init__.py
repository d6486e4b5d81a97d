"""What a board lacks or does wrong, and the commands that fix it."""
