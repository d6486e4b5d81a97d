"""Models and data sets by name, file or import path."""
