"""Policies to replay: the rule that ships, and what it is held against.

ALERT-like: C. Wan et al., "ALERT: Accurate Learning for Energy and Timeliness", USENIX ATC 2020: a table of accuracies
and a filter of the slow-down choose a network before the frame. The cascade with one threshold on the softmax margin
is as old as it is hard to beat; the gate, one threshold on the average margin, is the simplest use of a robust expert.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.controller import KEEP
from pipeline.adaptation.replay import Floats, Ints, Memory, Moment

THRESHOLDS = (0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999)
GATES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95)
STICKY = (0.0, 9.0, 20.0)
KEPT_DIFFERENCES = (3.0, 5.0, 7.0, 9.0, 14.0, 20.0, 28.0)
KEPT_MARGINS = (0.2, 0.4, 0.6, 0.8, 0.9, 0.97)
KEPT_FRAMES = (4, 10, 16)
_NEVER = -1.0


@dataclass(frozen=True, slots=True)
class Keep:
    """When the last answer is kept, see ``deploy.controller.Keep``."""

    difference: float = 0.0
    margin: float = 1.0
    frames: int = 0


@dataclass(frozen=True, slots=True)
class RuleSettings:
    """One setting of the rule, see ``deploy.controller.Rule``; ``_NEVER`` as a threshold leaves that part out."""

    start: int
    gate: float = _NEVER
    instead: int = 0
    escalate_to: int = 0
    threshold: float = _NEVER
    sticky_difference: float = 0.0
    keep: Keep = Keep()

    @property
    def escalates(self) -> bool:
        """Whether a second variant is ever asked."""
        return self.threshold > 0

    @property
    def is_gated(self) -> bool:
        """Whether the average margin chooses the variant that starts."""
        return self.gate > 0

    def as_json(self) -> dict[str, Any]:
        """Return it as controller.json has it."""
        return asdict(self)


def alone(variants: int) -> list[RuleSettings]:
    """Return each variant by itself, another one where it would be late."""
    return [RuleSettings(start=variant) for variant in range(variants)]


def cascades(variants: int) -> Iterator[RuleSettings]:
    """Yield cascades of two variants, sticky ones among them."""
    for start, other in itertools.permutations(range(variants), 2):
        for threshold, sticky in itertools.product(THRESHOLDS, STICKY):
            yield RuleSettings(start=start, escalate_to=other, threshold=threshold, sticky_difference=sticky)


def gates(variants: int) -> Iterator[RuleSettings]:
    """Yield gates between two variants."""
    for start, instead in itertools.permutations(range(variants), 2):
        for gate in GATES:
            yield RuleSettings(start=start, gate=gate, instead=instead)


def gated_cascades(variants: int) -> Iterator[RuleSettings]:
    """Yield gates whose variants escalate to one of them, or to another one."""
    for one, to in itertools.product(gates(variants), range(variants)):
        for threshold in THRESHOLDS[1::2]:
            if to != one.start:
                yield replace(one, escalate_to=to, threshold=threshold)


def keeps() -> Iterator[Keep]:
    """Yield the settings by which answers are kept; not at all first."""
    yield Keep()
    for difference, margin, frames in itertools.product(KEPT_DIFFERENCES, KEPT_MARGINS, KEPT_FRAMES):
        yield Keep(difference, margin, frames)


class _Keeps:
    """The keep settings of many rows."""

    def __init__(self, keeps: Sequence[Keep]) -> None:
        self._difference, self._margin, self._frames = (
            np.array([getattr(one, name) for one in keeps]) for name in ("difference", "margin", "frames")
        )

    def allow(self, memory: Memory, difference: Floats) -> NDArray[np.bool_]:
        k = memory.setting
        alike = (difference < self._difference[k]) & (memory.margin > self._margin[k])
        return (memory.answer >= 0) & alike & (memory.age < self._frames[k])


class RulePolicy:
    """The rule in many settings."""

    def __init__(self, settings: Sequence[RuleSettings]) -> None:
        """Take settings; no two parts of one contradict each other."""
        self.settings = len(settings)
        self._start, self._gate, self._instead, self._to, self._threshold, self._sticky = (
            np.array([getattr(one, name) for one in settings])
            for name in ("start", "gate", "instead", "escalate_to", "threshold", "sticky_difference")
        )
        self._keeps = _Keeps([one.keep for one in settings])

    def first(self, moment: Moment) -> Ints:
        """Return the variant that starts; the costliest in time where that one is not."""
        variant = self.starting(moment)
        return np.where(self._keeps.allow(moment.memory, moment.difference), KEEP, variant)

    def starting(self, moment: Moment) -> Ints:
        """Return the variant that starts where no answer is kept."""
        memory, k = moment.memory, moment.memory.setting
        variant = np.where(memory.slow < self._gate[k], self._instead[k], self._start[k])
        to, hardly = self._to[k], memory.margin < 0.5 + 0.5 * self._threshold[k]
        sticks = (memory.variant == to) & hardly & (moment.difference < self._sticky[k])
        return in_time(np.where(sticks, to, variant), moment.fits)

    def second(self, moment: Moment, first: Ints, fits: NDArray[np.bool_]) -> Ints:
        """Return the variant to escalate to where the margin is small and time allows it."""
        k = moment.memory.setting
        to = np.where(moment.of(moment.streams.margins, first) < self._threshold[k], self._to[k], first)
        return np.where(fits[np.arange(len(to)), to], to, first)


def in_time(variant: Ints, fits: NDArray[np.bool_]) -> Ints:
    """Return each row's variant, or the last that is in time where that one is not."""
    last = fits.shape[1] - 1 - fits[:, ::-1].argmax(1)
    return np.where(fits[np.arange(len(variant)), variant], variant, last)


class FixedPolicy:
    """One variant for every frame, in time or not."""

    def __init__(self, variants: Sequence[int]) -> None:
        """Take a variant for each setting."""
        self.settings, self._variants = len(variants), np.array(variants)

    def first(self, moment: Moment) -> Ints:
        """Return it."""
        return self._variants[moment.memory.setting]

    def second(self, moment: Moment, first: Ints, fits: NDArray[np.bool_]) -> Ints:
        """Ask no other."""
        del moment, fits
        return first


class AlertPolicy:
    """ALERT-like: the variant of the highest expected value by a table of accuracies and the chance to be in time."""

    def __init__(self, accuracies: Floats, stale: float, prices: Sequence[float]) -> None:
        """Take the accuracy of each variant, of a kept answer, and prices of a unit of cost, a setting each."""
        self.settings = len(prices)
        self._accuracies, self._stale, self._prices = accuracies, stale, np.array(prices)

    def first(self, moment: Moment) -> Ints:
        """Return the variant before anything is known of the frame."""
        memory, ladder = moment.memory, moment.streams.ladder
        chance = in_time_chance(memory, ladder.latencies_ms, ladder.deadline_ms)
        value = chance * self._accuracies + (1 - chance) * self._stale
        return np.asarray((value - self._prices[memory.setting][:, None] * ladder.costs).argmax(1))

    def second(self, moment: Moment, first: Ints, fits: NDArray[np.bool_]) -> Ints:
        """Ask no other."""
        del moment, fits
        return first


def in_time_chance(memory: Memory, latencies_ms: Floats, deadline_ms: float) -> Floats:
    """Return rows x variants: the chance to be in time, the slow-down normally distributed (logistic approximation)."""
    if not np.isfinite(deadline_ms):
        return np.ones((len(memory.mean), len(latencies_ms)))
    sigma = 1.25 * memory.deviation[:, None] * latencies_ms
    z = (deadline_ms - memory.mean[:, None] * latencies_ms) / np.maximum(sigma, 1e-9)
    return np.asarray(1 / (1 + np.exp(-1.702 * np.clip(z, -8, 8))))


class ConditionOracle:
    """Knows kind and severity, each variant's accuracy there, and the slow-down of this very frame; not the frame."""

    def __init__(self, prices: Sequence[float], keep: Keep | None = None) -> None:
        """Take prices, a setting each, and when answers are kept."""
        self.settings = len(prices)
        self._prices, self._keeps = np.array(prices), _Keeps([keep or Keep()] * len(prices))

    def first(self, moment: Moment) -> Ints:
        """Return the variant of the highest value in this condition."""
        streams, memory = moment.streams, moment.memory
        value = streams.frames.accuracies[streams.condition[memory.stream, moment.at]]
        variant = self._best(moment, value)
        return np.where(self._keeps.allow(memory, moment.difference), KEEP, variant)

    def second(self, moment: Moment, first: Ints, fits: NDArray[np.bool_]) -> Ints:
        """Ask no other."""
        del moment, fits
        return first

    def _best(self, moment: Moment, value: NDArray[Any]) -> Ints:
        streams, memory = moment.streams, moment.memory
        slower = streams.slower[memory.stream, moment.at][:, None]
        fits = slower * streams.ladder.latencies_ms <= streams.ladder.deadline_ms
        worth = np.where(fits, value, 0) - self._prices[memory.setting][:, None] * streams.ladder.costs
        return np.asarray(worth.argmax(1))


class FrameOracle(ConditionOracle):
    """Sees the answers: the cheapest right variant that is in time."""

    def first(self, moment: Moment) -> Ints:
        """Return it."""
        memory = moment.memory
        return self._best(moment, moment.streams.right[memory.stream, moment.at].astype(float))
