"""Runs beside each other: what they differ in, how sure the differences are, and the baselines beside them."""
