"""What may be written in an inventory and in a profile: every key, its type and its limits.

Each layer is partial: only what is written counts, so that layers can be laid over each other (``exclude_unset``).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field

_ONE_LINE = r"^[^\x00-\x1f\x7f]*$"
"""Without control characters: the agent is started by one line."""


def _number(value: object) -> object:
    """Accept an I²C address as ``0x40`` and as ``"0x40"``."""
    try:
        return int(value, 0) if isinstance(value, str) else value
    except ValueError:
        return value


def _backend(value: object) -> object:
    """YAML reads a bare ``null`` as nothing; here it is the name of the sensor that measures nothing."""
    return "null" if value is None else value


def _power(value: object) -> object:
    """Accept ``power: ina219`` and ``power: null`` for ``power: {backend: ...}``."""
    return {"backend": value} if value is None or isinstance(value, str) else value


def _members(value: object) -> object:
    """Accept ``lab: [a, b]`` for ``lab: {devices: [a, b]}``."""
    return {"devices": value} if isinstance(value, list) else value


class _Layer(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Ssh(_Layer):
    """How to log in; what is not written comes from OpenSSH's own config."""

    user: str | None = None
    port: int = Field(default=22, ge=1, le=65535)
    identity_file: str | None = None
    jump: str | None = None
    config: str | None = None
    known_hosts: str | None = None
    host_key_sha256: str | None = Field(default=None, pattern=r"^SHA256:[A-Za-z0-9+/]{43}$")
    connect_timeout_s: float = Field(default=10.0, gt=0)
    retries: int = Field(default=3, ge=0, le=100)


class Agent(_Layer):
    """Where the agent lives on the board and what runs it."""

    dir: str = Field(default="", min_length=1, pattern=_ONE_LINE)
    python: str = Field(default="auto", min_length=1, pattern=_ONE_LINE)


class Deploy(_Layer):
    """Where deployed bundles lie on the board."""

    dir: str = Field(default="~/.local/share/pipeline-deploy", min_length=1, pattern=_ONE_LINE)
    """Its user's alone; ``current`` in it leads to the version that runs."""


class Onnx(_Layer):
    """The newest ONNX that the board's runtime loads."""

    max_opset: int | None = Field(default=None, ge=7)
    max_ir: int | None = Field(default=None, ge=3)


class Power(_Layer):
    """The sensor; ``options`` carries what a sensor of your own takes."""

    backend: Annotated[str, BeforeValidator(_backend)] = "null"
    bus: int = Field(default=1, ge=0)
    address: Annotated[int, BeforeValidator(_number), Field(ge=0x03, le=0x77)] = 0x40
    shunt_ohms: float = Field(default=0.1, gt=0, le=10)
    averaging: Literal[1, 2, 4, 8, 16, 32, 64, 128] = 32
    range_v: Literal[16, 32] = 16
    chip: str = Field(default="", min_length=1)
    label: str = Field(default="", min_length=1)
    channel: int = Field(default=1, ge=1, le=3)
    rail: str = Field(default="", min_length=1)
    interval_ms: float = Field(default=20, gt=0)
    options: dict[str, Any] = {}


class Measure(_Layer):
    """How long and how exactly to measure."""

    warmup_s: float = Field(default=0.2, ge=0)
    min_s: float = Field(default=0.5, gt=0)
    max_s: float = Field(default=10.0, gt=0)
    ci_rel: float = Field(default=0.02, gt=0, lt=1)
    idle_s: float = Field(default=5.0, ge=0)
    block_s: float = Field(default=0.025, gt=0)
    threads: int = Field(default=1, ge=1)
    affinity: list[Annotated[int, Field(ge=0)]] | None = Field(default=None, min_length=1)
    spinning: bool | None = None
    timeout_s: float = Field(default=120.0, gt=0)
    build_timeout_s: float = Field(default=1200.0, gt=0)
    memory_share: float = Field(default=0.6, gt=0, le=1)
    processes: int = Field(default=5, ge=1, le=50)
    temperature_band_c: float = Field(default=5.0, gt=0)
    settle_s: float = Field(default=0.0, ge=0)
    max_background_cores: float | None = Field(
        default=None, ge=0, validation_alias=AliasChoices("max_background_cores", "others_cores")
    )


class Modes(_Layer):
    """Power modes: set while a run holds the board, and restored after it."""

    governor: str | None = None
    nvpmodel: int | None = Field(default=None, ge=0)
    jetson_clocks: bool | None = None


class Lock(_Layer):
    """How long to wait for a board that somebody else measures on, and when a silent holder loses it."""

    wait_s: float = Field(default=600.0, ge=0)
    ttl_s: float = Field(default=900.0, ge=30)


class Settings(_Layer):
    """What any layer may set: a profile, the defaults, a group or a device."""

    ssh: Ssh = Ssh()
    agent: Agent = Agent()
    deploy: Deploy = Deploy()
    runtime: str | Annotated[list[str], Field(min_length=1)] = "onnxruntime"
    runtime_options: dict[str, Any] = {}
    format: str | None = Field(default=None, min_length=1)
    channel_step: int | None = Field(default=None, ge=1)
    onnx: Onnx = Onnx()
    power: Annotated[Power, BeforeValidator(_power)] = Power()
    measure: Measure = Measure()
    modes: Modes = Modes()
    lock: Lock = Lock()
    max_upload_mb: float = Field(default=500.0, gt=0)
    tags: list[str] = []


class Profile(Settings):
    """One kind of board."""

    summary: str
    session: Literal["local", "ssh", "replay"] = "ssh"
    user_groups: list[str] = []
    fixes: dict[str, str] = Field(default={}, validation_alias=AliasChoices("fixes", "mends"))


class Group(Settings):
    """Devices that share settings."""

    devices: list[str]


class DeviceEntry(Settings):
    """One device."""

    kind: str = "linux"
    host: str | None = Field(default=None, min_length=1)
    recording: str | None = Field(default=None, min_length=1)


class InventoryFile(_Layer):
    """The whole file."""

    version: Literal[1] = 1
    defaults: Settings = Settings()
    groups: dict[str, Annotated[Group, BeforeValidator(_members)]] = {}
    devices: dict[str, DeviceEntry] = {}
