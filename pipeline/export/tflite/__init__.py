"""TFLite files: the base network converted once, every network cut from it written by rewriting that file."""
