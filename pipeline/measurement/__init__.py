"""From raw samples to figures with their uncertainty: pure statistics, no device, no torch."""
