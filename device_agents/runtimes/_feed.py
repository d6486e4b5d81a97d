"""What goes into a model and comes out of it: random values to measure with, the host's own to be answered."""

from typing import Any, Dict, List, Sequence, Tuple

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


def given_feed(inputs: List[Input], values: bytes, shape: Tuple[int, ...]) -> Dict[str, Any]:
    """Return little-endian float32 values as a model's inputs; of several each takes its part of every image's row."""
    import numpy

    images = numpy.frombuffer(values, dtype="<f4").reshape(shape)
    if len(inputs) == 1:
        return {inputs[0][0]: images.astype(inputs[0][2])}
    images = images.reshape(shape[0], -1)
    sizes = [int(numpy.prod(lengths[1:], dtype=int)) for _, lengths, _ in inputs]
    if sum(sizes) != images.shape[1]:
        raise ValueError("%d values for an image, the model takes %d" % (images.shape[1], sum(sizes)))
    feed, start = {}, 0
    for (name, lengths, dtype), size in zip(inputs, sizes):
        part = images[:, start : start + size]
        feed[name] = numpy.ascontiguousarray(part).reshape([shape[0]] + lengths[1:]).astype(dtype)
        start += size
    return feed


def as_rows(outputs: Sequence[Any], count: int) -> bytes:
    """Return outputs as little-endian float32 values, image by image; several outputs one after the other in each."""
    import numpy

    if len(outputs) == 1:
        return bytes(numpy.ascontiguousarray(outputs[0], dtype="<f4").tobytes())
    rows = [numpy.asarray(output, dtype="<f4").reshape(count, -1) for output in outputs]
    return bytes(numpy.concatenate(rows, axis=1).tobytes())


def all_finite(outputs: Any) -> bool:
    """Whether every array of floating-point numbers in ``outputs`` is finite."""
    import numpy

    return all(bool(numpy.isfinite(output).all()) for output in outputs if output.dtype.kind == "f")
