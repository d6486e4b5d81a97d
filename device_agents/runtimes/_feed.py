"""The prepared input: random values of each input's shape and type, the same for the same seed."""

from typing import Any, Dict, List, Tuple

Input = Tuple[str, List[int], str]
"""Name, shape, dtype as numpy calls it."""


def random_feed(inputs: List[Input], seed: int) -> Dict[str, Any]:
    """Return normal values for every input; whole numbers are 0 or 1, which every embedding and mask has."""
    import numpy

    generator = numpy.random.RandomState(seed % 2**32)
    feed = {}
    for name, shape, dtype in inputs:
        values = generator.standard_normal(shape)
        feed[name] = numpy.asarray(values if dtype.startswith("float") else values > 0).astype(dtype)
    return feed


def all_finite(outputs: Any) -> bool:
    """Whether every array of floating-point numbers in ``outputs`` is finite."""
    import numpy

    return all(bool(numpy.isfinite(output).all()) for output in outputs if output.dtype.kind == "f")
