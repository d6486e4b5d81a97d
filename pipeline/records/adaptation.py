"""What came of adapting a run: variants, what ships, and every method on every set of streams."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.records.quantities import Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One network of the ladder, as measured on the device."""

    name: str
    artifact: str
    """Of the run."""
    file_sha256: str
    size_bytes: int
    precision: str
    cost: float
    """Of one inference, over the plain variant's."""
    latency_ms: Interval
    energy_mj: Interval | None
    clean: float
    """Share of right answers to uncorrupted images that it was not trained on."""
    corrupted: float
    """And to corrupted ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DroppedVariant:
    """A candidate that the ladder does without."""

    name: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One method on one set of streams."""

    name: str
    accuracy: float | None
    """At the setting that was chosen beforehand; None: the method has none, being a mix or an oracle."""
    accuracy_error: float | None
    """Standard error over streams."""
    cost: float | None
    """Of a frame, over one inference of the plain variant."""
    late: float | None
    """Share of frames."""
    switches: float | None
    """In 1,000 frames."""
    kept: float | None
    """Share of frames."""
    cost_below: tuple[float | None, ...]
    """At the best fixed variant's accuracy less each of ``JudgedStreams.below``, over time-mixes of settings; None: it
    never gets there."""
    curve: tuple[tuple[float, float], ...]
    """Cost and accuracy of the settings on its hull, from the cheapest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CostRatio:
    """The cost of what ships over another method's at equal accuracy, streams paired."""

    over: str
    below: float
    """Under the best fixed variant's accuracy."""
    ratio: Interval | None
    """None: one of them never gets there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedStreams:
    """All methods on one set of held-out streams."""

    coherent: bool
    """An image is shown for a while; else every frame is another one."""
    seen: bool
    """Whether the kinds of corruption are those that networks and settings were fitted to."""
    count: int
    length: int
    best_fixed: str
    best_accuracy: float
    below: tuple[float, ...]
    methods: tuple[Method, ...]
    ratios: tuple[CostRatio, ...]
    p50_ms: float
    p99_ms: float
    """Of a frame that a network answered, as what ships takes it here."""

    @property
    def name(self) -> str:
        """Return what the set is called."""
        return f"{'coherent' if self.coherent else 'iid'}, {'seen' if self.seen else 'unseen'} kinds"

    def method(self, name: str) -> Method | None:
        """Return a method by its name; None: it was not tried."""
        return next((one for one in self.methods if one.name == name), None)

    def ratio(self, over: str, below: float) -> Interval | None:
        """Return what ships over a method; None: one of them never gets there."""
        return next((one.ratio for one in self.ratios if one.over == over and one.below == below), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decisions:
    """What was decided on one stream, frame by frame."""

    conditions: tuple[tuple[int, str], ...]
    """First frame of each segment, and its condition."""
    variants: tuple[int, ...]
    """That answered; -1: the last answer was kept."""
    escalated: tuple[bool, ...]
    right: tuple[bool, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Adaptation:
    """A run's ladder and controller, and how they were judged."""

    run: str
    device: str
    cost_of: str
    """What costs are shares of: latency or energy."""
    variants: tuple[Variant, ...]
    """The cheapest first."""
    dropped: tuple[DroppedVariant, ...]
    deadline_ms: float | None
    floor: float
    """Accuracy on the selection streams that settings were not to miss."""
    ceiling: Interval | None
    """The rule's cost over that of knowing every frame's condition, at the floor; None: one of both misses it."""
    ships: str
    """``rule`` or ``learned``."""
    why: str
    rule: str
    """In words."""
    judged: tuple[JudgedStreams, ...]
    decisions: Decisions
    decision_us: float
    """Of one decision on this machine, median, networks left out."""
    settings: str
    """Blob of controller.json."""
    seed: int
    frames: int
    """That every variant has answered."""
