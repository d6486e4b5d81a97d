"""What came of a plan: measurements, candidates, trials, artifacts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pipeline.records.fleet import OnBoard
from pipeline.records.plan import PruningPlan
from pipeline.records.quantities import Count, Interval, Positive, PositiveOnceFloat, Share, WeightBits


@dataclass(frozen=True, slots=True, kw_only=True)
class Power:
    """Power and energy over the active window; ``source`` names the sensor, ``scope`` what it sees."""

    mean_w: Interval
    idle_w: float | None
    energy_total_mj: Interval
    """Per inference."""
    energy_dynamic_mj: Interval | None
    """Per inference, idle power taken off."""
    source: str
    scope: Literal["module", "board", "package"]
    samples: int
    estimated: bool = False
    """Worked out from other figures; never set beside a measured one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One model on one device; every statistic computed by the host from raw samples."""

    p50_ms: Positive
    p90_ms: float
    p99_ms: float
    mean_ms: float
    inferences: int
    ratio: Positive | None
    """Median latency over the reference model's, paired within the same minute; None: no reference ran."""
    power: Power | None
    processes: int = 1
    """Each loaded the model anew; the intervals of one that stands for several come from between them."""
    power_ratio: PositiveOnceFloat | None = None
    """Mean power over the reference model's, from the same pairs of blocks as ``ratio``; None: not measured."""
    energy_ratio: PositiveOnceFloat | None = None
    """Energy an inference, alike."""
    peak_memory_mb: float | None = None
    load_ms: float | None = None
    temperature_c: float | None = None
    clock_mhz: float | None = None
    flags: tuple[str, ...] = ()
    """Why the figures may be wrong: throttled, clock_changed, noisy, …; empty: valid."""
    runtime: str = ""
    threads: int = 1
    conditions: Mapping[str, Any] = field(default_factory=dict)
    """What else the figures hold for: affinity, spinning, precision, modes that were set, who else was there."""
    reference_p50_ms: float | None = None
    """The reference model's median latency beside this one's: how fast the board was just then."""
    early: bool = False
    """Stopped early because it was surely over the budget: less exact than the others, and near the limit too high on
    average, since chance decided which of those were stopped."""
    bytes_sent: int = 0
    seconds: float = 0.0
    board: OnBoard | None = None
    """Of a run on several boards, the one that measured it; None: there is one alone, or all of them did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A plan turned into a network, evaluated and exported."""

    key: str
    """See ``SearchSpace.network_key``."""
    accuracy: Share
    """Share of right answers on the search split, layers fitted to the cut, not fine-tuned."""
    parameters: Count
    macs: Count
    size_bytes: Count
    """Of the whole model file."""
    probe_bytes: int
    """Of the skeleton that stands for it during the search."""
    peak_activation_bytes: int | None = None
    """Of the activations that are alive together; how it is counted says pruning.complexity. None: an older run's."""
    channels: Count | None = None
    """Output channels of all its layers."""
    sparsity: Share | None = None
    """Share of exactly zero weights."""
    accuracies: Mapping[str, Share] = field(default_factory=dict)
    """Under each condition of the data, of which ``accuracy`` is the mean; empty: the run has no conditions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One step of the search, whole: what was tried, what came of it, what it cost."""

    index: int
    plan: PruningPlan
    key: str
    candidate: Candidate | None = None
    measurement: Measurement | None = None
    failure: str | None = None
    reward: float | None = None
    terms: Mapping[str, float] = field(default_factory=dict)
    feasible: bool = False
    """Every target is met as measured."""
    cached: bool = False
    """The measurement was known already from a plan of the same shape."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    round: int = 1
    condition: str = ""
    """Of the data, for which the plan was asked; empty: for all of them alike."""
    rewards: Mapping[str, float] = field(default_factory=dict)
    """Under each condition; ``reward`` is that of the mean accuracy. Empty: the run has no conditions."""

    def under(self, condition: str) -> Trial:
        """Return the trial as it is under one condition of the data: with the accuracy and the reward there."""
        found = self.candidate and replace(self.candidate, accuracy=self.candidate.accuracies[condition])
        return replace(self, candidate=found, reward=self.rewards.get(condition))


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One network, as the last table compares it."""

    search_accuracy: Share
    """Share of right answers on the search split, read while that split had not been trained on."""
    test_accuracy: Share | None
    parameters: Count
    macs: Count
    size_bytes: Count
    measurement: Measurement
    peak_activation_bytes: int | None = None
    """Of the activations that are alive together; how it is counted says pruning.complexity. None: an older run's."""
    channels: Count | None = None
    """Output channels of all its layers."""
    sparsity: Share | None = None
    """Share of exactly zero weights."""


FULL = "-full"
"""Ends the id of an artifact that was fine-tuned in full, not just enough to be compared."""
UNTRIED = -1
"""In place of a trial's index, of an artifact that the search has not tried."""


def channel_sparsity(base: int, pruned: int) -> float:
    """Return the share of ``base`` channels that are gone where ``pruned`` are left; counted by pruning.complexity.

    >>> channel_sparsity(base=64, pruned=48)
    0.25
    """
    return 1 - pruned / base


@dataclass(frozen=True, slots=True, kw_only=True)
class FloatParent:
    """The same network in float32, from which an INT8 or FP16 file was made."""

    size_bytes: Count
    measurement: Measurement
    test_accuracy: Share | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A network that is ready to deploy."""

    id: str
    trial: int
    plan: PruningPlan
    key: str
    files: Mapping[str, str]
    """model.onnx, weights.safetensors, …: name → sha256 of the blob."""
    before: Figures
    """The pruned network before fine-tuning."""
    after: Figures
    device_accuracy: Share | None
    """On the device, over the verified images."""
    host_accuracy: Share | None
    """On the host, over the same images."""
    verified_images: int = 0
    chosen: bool = False
    round: int = 1
    validation_accuracy: Share | None = None
    """On the validation split. A training that learns from this split leaves what was read before."""
    precision: str = "float32"
    """In which the model file computes; ``after`` are its figures."""
    same_class: Share | None = None
    """Of the verified images, those that device and host put into the same class; None: not verified, or older."""
    agreement: Share | None = None
    """Of the search split's images, those that an INT8 file and its float32 parent put into the same class."""
    float_layers: tuple[str, ...] = ()
    """Weights of layers that stay float32 in an INT8 file, by their names."""
    weight_bits: WeightBits | None = None
    """Of an INT8 file's weights; None: it is none, or older, see ``PrecisionDecision``."""
    float_parent: FloatParent | None = None
    """What an INT8 or FP16 file was made of; measured for the one that is fine-tuned in full alone."""
    condition: str = ""
    """Of the data, on whose images it was chosen and trained; empty: the run has no conditions."""
    accuracy_under: Mapping[str, Share] = field(default_factory=dict)
    """On the test split, under each condition of the run."""


def layout(shape: Sequence[int]) -> str:
    """Return the order of a batch's axes in letters: number, channels, height and width or length.

    >>> layout((3, 224, 224)), layout((1, 128))
    ('NCHW', 'NCL')
    """
    return "NCHW" if len(shape) == 3 else "NCL"


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecisionDecision:
    """In which precision a run's networks compute on the device, decided before anything is cut."""

    precision: str
    """``float32``, ``int8`` or ``fp16``."""
    why: str
    """In a sentence."""
    base: Figures | None = None
    """The uncut network in that precision; None: in float32."""
    agreement: Share | None = None
    """Of the search split's images, those that the base puts into the same class in either precision."""
    float_layers: tuple[str, ...] = ()
    """Weights of layers that stay float32, by their names."""
    scheme: str = "u8s8"
    """How ONNX files round activations: to uint8, or to int8 (``s8s8``)."""
    weight_bits: WeightBits = 8
    """Of ONNX files' int8 weights. Decisions, recipes and manifests of before this field are read as of eight, which is
    all that was written then."""

    @property
    def changes(self) -> bool:
        """Whether networks are written otherwise than the base model is."""
        return self.precision != "float32"


@dataclass(frozen=True, slots=True)
class VerifiedAccuracy:
    """Shares of right answers to the same images; None: the device could not be asked."""

    on_device: float | None
    on_host: float | None
    images: int
    """Real images that both answered."""
    same_class: float | None = None
    """Of these, the share that both put into one class, right or wrong; None: an older version did not look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """A static baseline of a run: another way to cut the same network."""

    name: str
    figures: Figures | None
    """None: no plan of this kind is fast enough."""
    limit: Interval | None = None
    """The latency ratio of the run's own network, measured in the same session; None: nothing had to be as fast."""
    share: float | None = None
    """Of each group's channels, or of all units together, that was to stay."""
    channels: Mapping[str, int] | None = None
    """Group → channels that stay."""
    why_not: str = ""
