"""Adaptive pooling to any size as operators that every ONNX has, the sizes of the map being known.

torch's exporter writes it only where the size divides the map's. An average is then a product with a constant matrix:
of a small map one for all of its pixels, of a larger one a matrix for rows and one for columns. A maximum is that of
slices, row by row and column by column. Of the ways tried, these are the fastest in onnxruntime: of 512 maps of
14 × 14 to 6 × 6, 0.1 ms for an average (slices and means: 0.7 ms) and 0.2 ms for a maximum.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

Matrix = NDArray[np.float64]
Windows = Sequence[tuple[int, int]]
"""First and last place, that one not in it, of what each output is pooled from."""

_LARGEST = 2**14
"""Numbers in the matrix of a whole map beyond which two smaller ones are faster."""
_POOLING = re.compile(r"_?adaptive_(avg|max)_pool([123])d(_with_indices)?")


class AdaptivePooling(TorchFunctionMode):
    """Within it, adaptive pooling computes what it always does, by operators that can be written."""

    def __init__(self, *, products: bool = True) -> None:
        """Choose how averages are written.

        Args:
            products: as products with constants, which are faster in onnxruntime; else as means of slices.
        """
        super().__init__()
        self._averaged = _averaged if products else functools.partial(_sliced, torch.mean)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a function of torch's, or what stands for it."""
        kwargs = kwargs or {}
        found = _POOLING.fullmatch(getattr(func, "__name__", ""))
        if found is None:
            return func(*args, **kwargs)
        values, size = (*args, *(kwargs[name] for name in ("input", "output_size") if name in kwargs))[:2]
        kind, rank, _ = found.groups()
        inputs = [int(n) for n in values.shape[-int(rank) :]]
        outputs = _outputs(size, inputs)
        if all(n % m == 0 for n, m in zip(inputs, outputs, strict=True)):
            given = {name: value for name, value in kwargs.items() if name not in ("input", "output_size")}
            return func(values, outputs if int(rank) > 1 else outputs[0], *args[2:], **given)
        pooled = (self._averaged if kind == "avg" else _largest)(values, inputs, outputs)
        has_places = "with_indices" in func.__name__ or kwargs.get("return_indices") or any(args[2:])
        return (pooled, func(*args, **kwargs)[1]) if has_places else pooled


def windows(inputs: int, outputs: int) -> Windows:
    """Return what torch pools for each output, as in its ``start_index`` and ``end_index``.

    >>> windows(8, 3)
    [(0, 3), (2, 6), (5, 8)]
    """
    return [(i * inputs // outputs, -(-(i + 1) * inputs // outputs)) for i in range(outputs)]


def _outputs(size: Any, inputs: Sequence[int]) -> list[int]:
    """Return the size wanted along each dimension; None stands for what it is."""
    wanted = list(size) if isinstance(size, (tuple, list)) else [size] * len(inputs)
    return [n if m is None else int(m) for n, m in zip(inputs, wanted, strict=True)]


def _averaged(values: Tensor, inputs: Sequence[int], outputs: Sequence[int]) -> Tensor:
    """Return averages: of all pixels by one matrix, or along one dimension after the other."""
    rank = len(inputs)
    if math.prod(inputs) * math.prod(outputs) <= _LARGEST and rank > 1:
        whole = np.ones((1, 1))
        for n, m in zip(inputs, outputs, strict=True):
            whole = np.asarray(np.kron(whole, _means(n, m)), dtype=np.float64)
        return _reshaped(_reshaped(values, rank, [-1]) @ _constant(whole, values), 1, outputs)
    sizes = list(inputs)
    for dim, (n, m) in enumerate(zip(inputs, outputs, strict=True)):
        if n == m:
            continue
        sizes[dim], means = m, _means(n, m)
        if dim == rank - 1:
            values = values @ _constant(means, values)
        elif dim == rank - 2:
            values = _constant(means.T, values) @ values
        else:
            flat = _reshaped(values, rank - dim, [n, math.prod(sizes[dim + 1 :])])
            values = _reshaped(_constant(means.T, values) @ flat, 2, sizes[dim:])
    return values


def _largest(values: Tensor, inputs: Sequence[int], outputs: Sequence[int]) -> Tensor:
    """Return maxima along one dimension after the other: pooled where the size divides, of slices where not."""
    rank = len(inputs)
    kernel = [n // m if n % m == 0 else 1 for n, m in zip(inputs, outputs, strict=True)]
    if max(kernel) > 1:
        values = (functional.max_pool1d, functional.max_pool2d, functional.max_pool3d)[rank - 1](values, kernel)
    left = [n // size for n, size in zip(inputs, kernel, strict=True)]
    return _sliced(torch.amax, values, left, outputs)


def _sliced(reduce: Callable[..., Tensor], values: Tensor, inputs: Sequence[int], outputs: Sequence[int]) -> Tensor:
    """Return what ``reduce`` makes of the slices along one dimension after the other."""
    for dim, (n, m) in enumerate(zip(inputs, outputs, strict=True), -len(inputs)):
        if n != m:
            slices = [values.narrow(dim, start, end - start) for start, end in windows(n, m)]
            values = torch.cat([reduce(each, dim, keepdim=True) for each in slices], dim)
    return values


def _means(inputs: int, outputs: int) -> Matrix:
    """Return what each input has a part in each output by, (inputs, outputs)."""
    matrix = np.zeros((inputs, outputs))
    for output, (start, end) in enumerate(windows(inputs, outputs)):
        matrix[start:end, output] = 1 / (end - start)
    return matrix


def _constant(matrix: Matrix, like: Tensor) -> Tensor:
    """Return a matrix as what is traced takes for a constant."""
    return torch.from_numpy(np.ascontiguousarray(matrix, str(like.dtype).removeprefix("torch.")))


def _reshaped(values: Tensor, rank: int, sizes: Sequence[int]) -> Tensor:
    """Return values with other sizes in place of the last ``rank``; the channels' number is left open."""
    before = values.dim() - rank
    fixed = [int(n) for n in values.shape[: before - 1]]
    last = [math.prod(int(n) for n in values.shape[before:])] if list(sizes) == [-1] else sizes
    return values.reshape([*fixed, -1, *last])
