"""The data that travels between the parts: frozen, typed, no I/O, no torch; units end the names."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le, Predicate
from pydantic import BeforeValidator

LEVELS: tuple[int, ...] = (0, 25, 50, 75, 100)
"""Pruning levels in percent of a group's channels; 100 removes the block around them."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its 95 % confidence interval, in the figure's own unit."""

    value: float
    low: float
    high: float
    freedom: Annotated[float, Ge(1)] | None = field(default=None, repr=False, compare=False)
    """Degrees of freedom of the Student's t that it comes from; None: not known, or more than matter."""

    @classmethod
    def of_unknown_width(cls, value: float) -> Interval:
        """Return a positive figure of which no more is known: from 0 to twice itself, too wide to be sure of anything.

        >>> Interval.of_unknown_width(0.8)
        Interval(value=0.8, low=0.0, high=1.6)
        """
        return cls(value, 0.0, min(2 * value, sys.float_info.max))

    def __truediv__(self, scale: float) -> Interval:
        """Return the interval in another unit.

        >>> Interval(2.0, 1.0, 3.0) / 2
        Interval(value=1.0, low=0.5, high=1.5)
        """
        return Interval(self.value / scale, self.low / scale, self.high / scale, self.freedom)

    @property
    def half_width(self) -> float:
        """Half the interval's width."""
        return (self.high - self.low) / 2

    @property
    def positive(self) -> bool:
        """Whether the figure is more than zero."""
        return self.value > 0


def _widened(stored: object) -> object:
    """Return a plain number, which older versions stored, as a figure of unknown width."""
    return Interval.of_unknown_width(stored) if isinstance(stored, float) else stored


Positive = Annotated[Interval, Predicate(lambda interval: interval.positive)]
PositiveOnceFloat = Annotated[Positive, BeforeValidator(_widened)]
Share = Annotated[float, Ge(0), Le(1)]
Count = Annotated[int, Ge(1)]
"""What a record cannot be otherwise; whoever reads stored or sent ones (``codec.load``) is told."""


# ---------------------------------------------------------------- device


@dataclass(frozen=True, slots=True, kw_only=True)
class SshAddress:
    """Where a board is and how to prove who is who; never a secret."""

    host: str
    port: int = 22
    user: str | None = None
    identity_file: str | None = None
    jump: SshAddress | None = None
    """The host to go through, resolved the same way; it may have one of its own."""
    proxy_command: str | None = None
    """A shell command whose stdin and stdout lead to the host, instead of TCP; OpenSSH's ProxyCommand."""
    known_hosts: str = ""
    """Our own file of trusted host keys: the only one that is ever written."""
    more_known_hosts: tuple[str, ...] = ()
    """Files of OpenSSH's that are read as well."""
    host_key_sha256: str | None = None
    connect_timeout_s: float = 10.0
    retries: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerSettings:
    """Which sensor reads power and how; ``backend`` null means that power is not measured."""

    backend: str = "null"
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureSettings:
    """How long and how exactly to measure."""

    warmup_s: float = 0.2
    min_s: float = 0.5
    max_s: float = 10.0
    ci_rel: float = 0.02
    idle_s: float = 5.0
    block_s: float = 0.025
    """At least one inference long. 20 blocks fill ``min_s``: fewer tell too little of how much neighbours are alike."""
    processes: int = 5
    """What has to hold for a network, and not for one process of it, is measured in so many, one after the other."""
    threads: int = 1
    affinity: tuple[int, ...] | None = None
    """Cores that the runtime may use; None: all of them. One left free for the sensor is a condition as well."""
    spinning: bool | None = None
    """Whether the runtime's idle threads spin; None: as the runtime likes. Spinning is faster and draws more power."""
    timeout_s: float = 120.0
    build_timeout_s: float = 1200.0
    """For runtimes that build an engine on the board, on top of ``timeout_s``."""
    memory_share: float = 0.6
    """Of the board's memory: a runtime's process that holds more is ended, and its candidate has failed."""
    temperature_band_c: float = 5.0
    """A measurement begins no hotter than the session's temperature and this much."""
    settle_s: float = 0.0
    """How long to wait for that; then the session's temperature is the new, higher one."""
    others_cores: float | None = None
    """Cores that other programs may keep busy before a measurement is invalid; None: as many as do no harm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LockSettings:
    """Many users of one board: how long to wait for it, and when a silent holder loses it."""

    wait_s: float = 600.0
    ttl_s: float = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One entry of the inventory, resolved: profile, defaults, groups and its own keys merged."""

    name: str
    kind: str
    ssh: SshAddress | None = None
    """None: the agent runs as a child process on this machine."""
    agent_dir: str = "~/.cache/pipeline-agent"
    python: str = "auto"
    runtime: str = "onnxruntime"
    runtime_options: Mapping[str, Any] = field(default_factory=dict)
    """The runtime's own: fp16, workspace_mb, ..."""
    format: Literal["onnx", "tflite"] = "onnx"
    """Of the candidates; what the runtime loads."""
    modes: Mapping[str, Any] = field(default_factory=dict)
    """Power modes, set while a run holds the board and restored after it: governor, nvpmodel, jetson_clocks."""
    lock: LockSettings = field(default_factory=LockSettings)
    recording: str | None = None
    """A recorded board's file, which is played back; None: a real board."""
    channel_step: int | None = None
    """Kept channels are rounded up to a multiple of this; None: from the processor the agent reports."""
    onnx_max_opset: int | None = None
    onnx_max_ir: int | None = None
    """Pinned limits; None: from the runtime's version the agent reports."""
    power: PowerSettings = field(default_factory=PowerSettings)
    measure: MeasureSettings = field(default_factory=MeasureSettings)
    max_upload_mb: float = 500.0
    tags: tuple[str, ...] = ()
    user_groups: tuple[str, ...] = ()
    """Unix groups that the user must be in on a board of this kind."""
    mends: Mapping[str, str] = field(default_factory=dict)
    """What to do on a board of this kind when a check fails: the check's name → a command or a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFacts:
    """What the agent says of the board it runs on."""

    agent_sha256: str
    python: str
    machine: str
    board: str
    kernel: str
    cpu: str
    cores: int
    simd: str
    """avx512, avx2, neon or none."""
    memory_mb: float
    disk_free_mb: float
    runtimes: Mapping[str, str]
    """Importable runtimes: name → version."""
    sensors: Mapping[str, str]
    """Power back ends: name → ``ok`` or why not."""
    governor: str | None = None
    clock_mhz: float | None = None
    temperature_c: float | None = None
    throttled: str | None = None
    user: str | None = None
    groups: tuple[str, ...] = ()
    holder: str | None = None
    """Who measures on the board just now, in words."""
    governors: str | None = None
    """Those that the kernel offers, joined by commas."""
    helper: str | None = None
    """The sha256 of the root-owned helper that sets power modes; None: not installed."""
    system: str | None = None
    libc: str | None = None
    l4t: str | None = None
    """A Jetson's Linux for Tegra: 32.7.1."""
    swap_mb: float | None = None


@dataclass(frozen=True, slots=True)
class OnnxLimits:
    """The newest ONNX that a device's runtime loads."""

    opset: int
    ir: int


# ---------------------------------------------------------------- what to cut


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Coupled channels that are cut together, and what they weigh in the base model."""

    name: str
    """The root layer's qualified name."""
    layers: tuple[str, ...]
    """Every layer whose width changes with the group."""
    channels: int
    kept: Mapping[int, int]
    """Legal level in percent → channels kept; 0 is always legal; 100 → 0 removes the block."""
    macs: int
    """MACs of the base model that go if all of the group's channels go."""
    parameters: int
    bypass: str | None = None
    """The innermost block that goes at level 100, by its node in the graph; None: there is none, 100 is masked."""
    kernel: int = 1
    stride: int = 1
    reads: Mapping[str, float] = field(default_factory=dict)
    """Layers that read the group's channels → the share that these are of all that they read."""
    makes: Mapping[str, float] = field(default_factory=dict)
    """Layers that make or scale them → the share that these are of all that they make."""
    why_not_whole: str = ""
    """Why level 100 is not legal; empty where it is."""
    width: int = 1
    """Channels that come and go together: more than one in grouped convolutions and channel shuffles."""

    @property
    def units(self) -> int:
        """How many sets of channels can go one by one."""
        return self.channels // self.width

    @property
    def levels(self) -> tuple[int, ...]:
        """Legal levels, ascending."""
        return tuple(sorted(self.kept))


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSpace:
    """What may be cut in one model for one device."""

    groups: tuple[Group, ...]
    refused: Mapping[str, str]
    """Layers left whole → the reason."""
    macs: int
    parameters: int
    step: int
    layer_macs: Mapping[str, int] = field(default_factory=dict)
    """Every layer with weights → its MACs in the base model."""
    layer_parameters: Mapping[str, int] = field(default_factory=dict)
    refused_macs: Mapping[str, int] = field(default_factory=dict)
    """Layers left whole → the MACs that they hold."""
    weights: Mapping[str, int] = field(default_factory=dict)
    """Every weight tensor, in the order of the network's parameters, which is that of a plan's zeros → its values."""
    blocks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Each block that can go → the layers that go with it, those of blocks within it among them."""

    def inside(self, block: str) -> frozenset[str]:
        """Return the blocks that go with a block: itself, and those whose layers are all among its own."""
        own = set(self.blocks.get(block, ()))
        return frozenset([block, *(name for name, layers in self.blocks.items() if own > set(layers))])

    def kept(self, levels: tuple[int, ...]) -> tuple[int, ...]:
        """Return the channels each group keeps; all groups of a removed block, and of those within it, keep none.

        A block goes where any of its groups is at level 100, whatever level the others have.

        Raises:
            ValueError: the levels are another space's.
        """
        if other := next((level for g, level in zip(self.groups, levels, strict=True) if level not in g.kept), None):
            raise ValueError(f"there is no level {other} in this space")
        asked = {g.bypass for g, level in zip(self.groups, levels, strict=True) if level == 100 and g.bypass}
        removed = frozenset[str]().union(*(self.inside(block) for block in asked))
        return tuple(
            0 if g.bypass is not None and g.bypass in removed else g.kept[level]
            for g, level in zip(self.groups, levels, strict=True)
        )

    def key(self, levels: tuple[int, ...]) -> str:
        """Return the canonical name of a network's shape: plans that keep the same channels have the same."""
        return "-".join(map(str, self.kept(levels)))

    def network_key(self, plan: PruningPlan) -> str:
        """Return the canonical name of a plan's network: its shape's, and where weights are zero a digest of these."""
        zeros = f"+{sha256(repr(plan.zeros).encode()).hexdigest()[:12]}" if plan.zeros else ""
        return self.key(plan.levels) + zeros

    def zeros(self, plan: PruningPlan) -> dict[str, float]:
        """Return the share of each weight tensor that a plan sets to zero; nothing of a plan that cuts channels."""
        return dict(zip(self.weights, plan.zeros, strict=True)) if plan.zeros else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class PruningPlan:
    """One level per group, and the criterion that ranks the channels; or the single weights that become zero."""

    levels: tuple[int, ...]
    criterion: str = "l1"
    zeros: tuple[float, ...] = ()
    """Share of each weight tensor that is zero, the smallest values first; levels are all 0 then. In the order of
    ``SearchSpace.weights``; empty: no single weights are touched. Shares, not thresholds: on another checkpoint they
    leave as many weights, however these are spread."""


# ---------------------------------------------------------------- what came out


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
    """Of the activations that are alive together; how it is counted says pruning.measures. None: an older run's."""
    channels: Count | None = None
    """Output channels of all its layers."""
    sparsity: Share | None = None
    """Share of exactly zero weights."""


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
    """Of the activations that are alive together; how it is counted says pruning.measures. None: an older run's."""
    channels: Count | None = None
    """Output channels of all its layers."""
    sparsity: Share | None = None
    """Share of exactly zero weights."""


FULL = "-full"
"""Ends the id of an artifact that was fine-tuned in full, not just enough to be compared."""


def channel_sparsity(base: int, pruned: int) -> float:
    """Return the share of ``base`` channels that are gone where ``pruned`` are left; counted by pruning.measures.

    >>> channel_sparsity(base=64, pruned=48)
    0.25
    """
    return 1 - pruned / base


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


def layout(shape: Sequence[int]) -> str:
    """Return the order of a batch's axes in letters: number, channels, height and width or length.

    >>> layout((3, 224, 224)), layout((1, 128))
    ('NCHW', 'NCL')
    """
    return "NCHW" if len(shape) == 3 else "NCL"
