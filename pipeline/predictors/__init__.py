"""What a plan will cost on this board, learnt from measurements."""
