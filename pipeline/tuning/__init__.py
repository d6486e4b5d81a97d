"""Searching settings, such as the reward's weights: each trial is a run of its own, stored and resumed like any."""
