"""Quantization of a finished network: an INT8 file, judged on images and measured beside its float parent."""
