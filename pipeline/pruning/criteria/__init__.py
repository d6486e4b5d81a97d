"""How much a channel matters: one criterion a file, named for what the user types.

Each file has ``scores(group, evidence)``: one tensor of float64, (units,), for each slice of the group that the
criterion counts, higher where the unit matters more; and ``DIGITS``: the significant digits of them that any machine
computes alike: 7 where float64 sums of weights are compared, fewer where float32 passes of images come before.
"""
