"""From a plan to figures: build the candidate, measure it on the device."""
