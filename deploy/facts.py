"""What a run knows of an artifact beyond the artifact itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.measurement.calibration import Calibration
from pipeline.records import DeviceFacts, Figures, ModelFormat, SearchSpace


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkInput:
    """How a network is fed."""

    name: str
    shape: tuple[int, ...]
    """Channels, height, width; of signals channels, samples."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    """Of each channel, of pixels between 0 and 1, or of a signal's own numbers."""
    resize: int | None = None
    """Shorter side of an image before its centre is cut; None: it just covers the shape."""
    interpolation: str = "bilinear"


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleTask:
    """What a network is for that puts nothing into classes, and what its file takes and answers."""

    name: str
    metric: str
    """What the figures under ``accuracy`` are called."""
    inputs: tuple[tuple[str, tuple[int, ...]], ...]
    outputs: tuple[tuple[str, tuple[int, ...]], ...]
    """Names and shapes, without the batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleCondition:
    """The condition of the data that a network was chosen and trained for, and how its images are told from others."""

    name: str
    input_mean: tuple[float, ...]
    input_variance: tuple[float, ...]
    """Of the normalised images under it, by channel."""
    accuracy_under: Mapping[str, float]
    """On the test split under each condition of the run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleFacts:
    """Where the network comes from and how it is fed."""

    run_id: str
    format: ModelFormat
    """Of the model file."""
    classes: tuple[str, ...]
    """In the order of the network's outputs."""
    input: NetworkInput
    space: SearchSpace
    device: DeviceFacts
    device_name: str
    base: Figures
    """Under the network's condition, where there is one."""
    seed: int
    versions: Mapping[str, str]
    config: Mapping[str, Any]
    git: Any
    """What the run knew of its working copy; None where it had none."""
    task: BundleTask | None = None
    """None: classification."""
    condition: BundleCondition | None = None
    """None: the run's data had none."""
    calibration: Calibration | None = None
    """Of the device, as the run began; None where there was none that held."""
