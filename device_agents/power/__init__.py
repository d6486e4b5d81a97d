"""Power sensors: open(options) gives a sensor with read_w(); one a file, imported only when asked for."""
