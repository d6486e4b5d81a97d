"""Successive halving of the finalists: many are trained a little, the better ones more, one of them in full.

Jamieson and Talwalkar, "Non-stochastic Best Arm Identification and Hyperparameter Optimization", 2016. Each rung is a
training of its own, whose learning rate rises and falls, from the weights that the rung before has left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.config import FineTuningConfig
from pipeline.training.settings import FineTuning, settings_of


@dataclass(frozen=True, slots=True)
class Rung:
    """One short training, which so many finalists get; then the better ones go on."""

    finalists: int
    settings: FineTuning

    def steps(self, images: int) -> int:
        """Return the gradient steps of one finalist over so many images; 0 where nothing is trained."""
        return self.settings.steps(images) if self.settings.epochs else 0


def rungs_of(section: FineTuningConfig, found: int, seed: int) -> tuple[Rung, ...]:
    """Return what finalists go through before one is trained in full; there are ``found`` candidates for it.

    The last rung has the epochs that run.yaml names for a finalist, each one before it a ``reduction_factor``-th of the
    next one's: all rungs cost about the same.
    """
    counts = climb(min(section.finalists, found), section.reduction_factor)
    parts = [section.reduction_factor ** (len(counts) - 1 - number) for number in range(len(counts))]
    return tuple(
        Rung(count, settings_of(section, epochs=section.finalist_epochs / part,
                                min_steps=section.min_steps // (2 * part), seed=seed + number))
        for number, (count, part) in enumerate(zip(counts, parts, strict=True))
    )  # fmt: skip


def climb(finalists: int, reduction_factor: int) -> list[int]:
    """Return how many finalists each rung has, until few enough are left to choose one of them.

    >>> climb(9, 3), climb(8, 2), climb(10, 4), climb(3, 3), climb(1, 3)
    ([9, 3], [8, 4, 2], [10, 2], [3], [1])
    """
    counts = [finalists]
    while counts[-1] > reduction_factor:
        counts.append(max(2, counts[-1] // reduction_factor))
    return counts


def cost(rungs: Sequence[Rung], images: int) -> str:
    """Return in a sentence how much is trained over so many images, if no finalist is replaced."""
    passes = [rung.steps(images) * rung.settings.batch_size / images for rung in rungs]
    parts = ", then ".join(f"{rung.finalists} × {each:.2g}" for rung, each in zip(rungs, passes, strict=True))
    total = sum(rung.finalists * each for rung, each in zip(rungs, passes, strict=True))
    return f"passes over the training split for finalists: {parts}; {total:.2g} in all"
