"""The data that travels between the parts: frozen, typed, no I/O, no torch; units end the names."""

from pipeline.records.device import (
    REPLAY,
    Device,
    DeviceFacts,
    LockSettings,
    MeasureSettings,
    OnnxLimits,
    PowerSettings,
    SshAddress,
)
from pipeline.records.model_format import ModelFormat
from pipeline.records.plan import LEVELS, Group, PruningPlan, SearchSpace
from pipeline.records.quantities import Count, Interval, Positive, PositiveOnceFloat, Share
from pipeline.records.result import (
    FULL,
    Artifact,
    Baseline,
    Candidate,
    Figures,
    FloatParent,
    Measurement,
    Power,
    PrecisionDecision,
    Trial,
    VerifiedAccuracy,
    channel_sparsity,
    layout,
)

__all__ = [
    "FULL",
    "LEVELS",
    "REPLAY",
    "Artifact",
    "Baseline",
    "Candidate",
    "Count",
    "Device",
    "DeviceFacts",
    "Figures",
    "FloatParent",
    "Group",
    "Interval",
    "LockSettings",
    "MeasureSettings",
    "Measurement",
    "ModelFormat",
    "OnnxLimits",
    "Positive",
    "PositiveOnceFloat",
    "Power",
    "PowerSettings",
    "PrecisionDecision",
    "PruningPlan",
    "SearchSpace",
    "Share",
    "SshAddress",
    "Trial",
    "VerifiedAccuracy",
    "channel_sparsity",
    "layout",
]
