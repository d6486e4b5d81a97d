"""PuRL: a reward at every step, thresholds of magnitude."""
