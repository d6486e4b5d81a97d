"""Where INT8 hurts: runs of neighbouring layers that stay float32 until the answers are good.

Single layers are never tried: some runtimes quantize a float layer between INT8 ones all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

from pipeline.errors import CandidateError
from pipeline.quantization.judgement import Judgement

RUNS = 8
"""Into so many the layers are divided, each of two or more."""
MOST_TRIED = 3
"""Runs that may stay float; a network that needs more gains little from the rest."""


class Made(Protocol):
    """An INT8 file, and whatever else is known of it."""

    @property
    def data(self) -> bytes:
        """The file."""


File = TypeVar("File", bound=Made)
Layer = TypeVar("Layer", int, str)
Judge = Callable[[bytes], Judgement]


def with_float_runs(
    first: File, judged: Judgement, layers: Sequence[Layer], make: Callable[[Sequence[Layer]], File], judge: Judge
) -> tuple[File, Judgement]:
    """Return the file with as few runs of float layers as make its answers good, or the best that was found.

    Args:
        first: with every layer in INT8, and ``judged``, how it answers.
        layers: those with weights, by their places or names, in order.
        make: quantizes with these layers float; raises CandidateError where a runtime would not keep them so.
        judge: reads a file's answers.
    """
    best = first, judged
    kept: frozenset[Layer] = frozenset()
    for _ in range(MOST_TRIED):
        if best[1].is_good:
            break
        tried = [kept | run for run in _overlapping(layers) if not kept >= run and not kept | run >= set(layers)]
        found = [(file, judge(file.data), one) for one in tried if (file := _made_or_none(make, one)) is not None]
        if not found:
            break
        file, answers, one = max(found, key=lambda entry: (entry[1].agreement, entry[1].int8))
        if answers.agreement <= best[1].agreement:
            break
        best, kept = (file, answers), one
    return best


def _overlapping(layers: Sequence[Layer]) -> list[frozenset[Layer]]:
    """Return the runs, and those that begin in the middle of each: what hurts may lie between two."""
    shift = max(1, max(2, len(layers) // RUNS) // 2)
    return list(dict.fromkeys(frozenset(run) for one in (layers, layers[shift:]) for run in runs(one)))


def _made_or_none(make: Callable[[Sequence[Layer]], File], kept: frozenset[Layer]) -> File | None:
    try:
        return make(sorted(kept))
    except CandidateError:
        return None


def runs(layers: Sequence[Layer]) -> Iterator[Sequence[Layer]]:
    """Yield neighbouring layers, two or more together.

    >>> [list(run) for run in runs([1, 2, 3, 4, 5])]
    [[1, 2], [3, 4, 5]]
    >>> list(runs([1]))
    []
    """
    size = max(2, len(layers) // RUNS)
    starts: list[int] = list(range(0, len(layers) - 1, size))
    if not starts:
        return
    if len(starts) > 1 and len(layers) - starts[-1] < size:
        starts.pop()
    for start, end in zip(starts, [*starts[1:], len(layers)], strict=True):
        yield layers[start:end]
