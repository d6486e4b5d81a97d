"""One YAML file for each kind of board: runtime, sensor, channel step, how to measure."""
