"""Cut channels out of a network and prove that it is still the masked network."""
