"""Networks as files that a device's runtime can load."""
