"""Where INT8 hurts: runs of neighbouring layers that stay float32 until the answers are good.

Single layers are never tried: some runtimes quantize a float layer between INT8 ones all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from pipeline.export.quantization.quantize import QuantizedFile
from pipeline.quantization.judgement import Judgement

RUNS = 8
"""Into so many the layers are divided, each of two or more."""
MOST_TRIED = 3
"""Runs that may stay float; a network that needs more gains little from the rest."""

Make = Callable[[Sequence[int]], QuantizedFile]
Judge = Callable[[bytes], Judgement]


def with_float_runs(
    first: QuantizedFile, judged: Judgement, layers: Sequence[int], make: Make, judge: Judge
) -> tuple[QuantizedFile, Judgement]:
    """Return the file with as few runs of float layers as make its answers good, or the best that was found.

    Args:
        first: with every layer in INT8, and ``judged``, how it answers.
        layers: those with weights, by their nodes' places, in order.
        make: quantizes with these layers float.
        judge: reads a file's answers.
    """
    best, kept = (first, judged), frozenset[int]()
    for _ in range(MOST_TRIED):
        if best[1].is_good:
            break
        tried = [kept | set(run) for run in runs(layers) if not kept >= set(run) and not kept | set(run) >= set(layers)]
        found = [(file := make(sorted(one)), judge(file.data), one) for one in tried]
        if not found:
            break
        file, answers, one = max(found, key=lambda entry: (entry[1].agreement, entry[1].int8))
        if answers.agreement <= best[1].agreement:
            break
        best, kept = (file, answers), one
    return best


def runs(layers: Sequence[int]) -> Iterator[Sequence[int]]:
    """Yield neighbouring layers, two or more together.

    >>> [list(run) for run in runs([1, 2, 3, 4, 5])]
    [[1, 2], [3, 4, 5]]
    """
    size = max(2, len(layers) // RUNS)
    starts = list(range(0, len(layers) - 1, size))
    if len(starts) > 1 and len(layers) - starts[-1] < size:
        starts.pop()
    for start, end in zip(starts, [*starts[1:], len(layers)], strict=True):
        yield layers[start:end]
