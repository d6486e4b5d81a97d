"""A device: how it is reached, how it measures, what it says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import AliasChoices, Field

DEFAULT_RUNTIME = "onnxruntime"
REPLAY = "replay"
"""The kind of every device that is played back, whatever its profile is called."""


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
    max_background_cores: Annotated[
        float | None, Field(validation_alias=AliasChoices("max_background_cores", "others_cores"))
    ] = None
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
    deploy_dir: str = "~/.local/share/pipeline-deploy"
    """Where deployed bundles lie on the board."""
    runtime: str = DEFAULT_RUNTIME
    runtimes: tuple[str, ...] = ()
    """Of these, the first that the agent finds on the board is ``runtime``; none: it is named, or was found."""
    runtime_options: Mapping[str, Any] = field(default_factory=dict)
    """The runtime's own: fp16, workspace_mb, ..."""
    format: str = "onnx"
    """Of the candidates; what the runtime loads: a file of pipeline/export/formats, or a file.py of one's own."""
    modes: Mapping[str, Any] = field(default_factory=dict)
    """Power modes, set while a run holds the board and restored after it: governor, nvpmodel, jetson_clocks."""
    lock: LockSettings = field(default_factory=LockSettings)
    recording: str | None = None
    """A recorded board's file, which is played back; None: a real board."""
    channel_step: int | None = None
    """Kept channels are rounded up to a multiple of this; None: from the processor the agent reports."""
    onnx_max_opset: int | None = None
    onnx_max_ir: int | None = None
    """What the inventory says of the runtime; None: from the runtime's version that the agent reports."""
    power: PowerSettings = field(default_factory=PowerSettings)
    measure: MeasureSettings = field(default_factory=MeasureSettings)
    max_upload_mb: float = 500.0
    tags: tuple[str, ...] = ()
    user_groups: tuple[str, ...] = ()
    """Unix groups that the user must be in on a board of this kind."""
    fixes: Annotated[Mapping[str, str], Field(validation_alias=AliasChoices("fixes", "mends"))] = field(
        default_factory=dict
    )
    """What to do on a board of this kind when a check fails: the check's name → a command or a sentence."""
    plugins: str | None = None
    """Folder of the user's own sensors and runtimes, which the agent has beside those that ship."""
    boards: tuple[Device, ...] = ()
    """Those that measure side by side, of one kind, where several do so for one run; empty: it is one board itself."""


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
    broken_runtimes: Mapping[str, str] = field(default_factory=dict)
    """Runtimes whose file fails on the board, each with why."""
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
    vnni: bool | None = None
    """Whether an x86 processor has VNNI, see ``Processor``; None: it is no x86, or an older agent did not look."""


@dataclass(frozen=True, slots=True)
class Processor:
    """What decides on whether a processor computes INT8 right, see ``quantization.saturation``."""

    machine: str
    """As ``platform.machine()`` calls it."""
    has_vnni: bool | None = None
    """Whether an x86 adds products of 8-bit integers in 32 bits (AVX-512 VNNI or AVX-VNNI); None: it does not say."""

    @property
    def is_x86(self) -> bool:
        """Whether it is one of Intel's or AMD's."""
        return self.machine in {"x86_64", "AMD64", "i686", "i386"}

    @property
    def saturates(self) -> bool:
        """Whether INT8 weights of eight bits are too large for it; an x86 that does not say counts as one."""
        return self.is_x86 and not self.has_vnni


@dataclass(frozen=True, slots=True)
class OnnxSupport:
    """The newest ONNX that a device's runtime loads."""

    opset: int
    ir: int
