"""ONNX files put together from parts: each of a network's operations translated once, by torch's own exporter.

What differs between the networks that are cut from one are widths and weights, a few numbers among the arguments, and
which operations are left. The traced network itself says all of that, so a file is written along it:
``shape_inference`` says which shapes there are, ``layers`` writes the layers with weights, ``operator_export`` every
other operation, ``compose`` joins them.
"""
