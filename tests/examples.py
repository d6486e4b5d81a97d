"""Example records for tests: small, plausible, each field open to change."""

from __future__ import annotations

from typing import Any

from pipeline.measurement.between_processes import Spread
from pipeline.measurement.calibration import Calibration, Checked, Conditions, Rate
from pipeline.records import (
    Artifact,
    Candidate,
    Device,
    DeviceFacts,
    Figures,
    Group,
    Interval,
    Measurement,
    MeasureSettings,
    Power,
    PruningPlan,
    SearchSpace,
    Trial,
)


def power(mean_w: float = 3.2, **changes: Any) -> Power:
    fields: dict[str, Any] = {
        "mean_w": Interval(mean_w, mean_w - 0.05, mean_w + 0.05),
        "idle_w": 1.9,
        "energy_total_mj": Interval(mean_w * 1.3, mean_w * 1.3 - 0.1, mean_w * 1.3 + 0.1),
        "energy_dynamic_mj": None,
        "source": "ina219",
        "scope": "board",
        "samples": 120,
    }
    return Power(**{**fields, **changes})


def measurement(p50_ms: float = 1.31, **changes: Any) -> Measurement:
    fields: dict[str, Any] = {
        "p50_ms": Interval(p50_ms, p50_ms - 0.02, p50_ms + 0.02),
        "p90_ms": p50_ms * 1.1,
        "p99_ms": p50_ms * 1.4,
        "mean_ms": p50_ms * 1.02,
        "inferences": 900,
        "ratio": Interval(p50_ms / 2.73, p50_ms / 2.73 - 0.01, p50_ms / 2.73 + 0.01),
        "power": None,
        "runtime": "onnxruntime 1.22.0",
        "threads": 1,
        "bytes_sent": 4200,
        "seconds": 2.5,
    }
    return Measurement(**{**fields, **changes})


def candidate(accuracy: float = 0.91, **changes: Any) -> Candidate:
    fields: dict[str, Any] = {
        "key": "8-4",
        "accuracy": accuracy,
        "parameters": 12_000,
        "macs": 400_000,
        "size_bytes": 50_000,
        "probe_bytes": 420,
    }
    return Candidate(**{**fields, **changes})


def trial(index: int = 1, *, accuracy: float = 0.91, p50_ms: float = 1.31, **changes: Any) -> Trial:
    fields: dict[str, Any] = {
        "index": index,
        "plan": PruningPlan(levels=(50, 75)),
        "key": "8-4",
        "candidate": candidate(accuracy),
        "measurement": measurement(p50_ms),
        "reward": accuracy - 0.1,
        "terms": {"accuracy": accuracy, "latency": -0.1},
        "feasible": True,
        "seconds": {"build": 0.2, "measure": 2.5},
    }
    return Trial(**{**fields, **changes})


def failed_trial(index: int = 1, failure: str = "the runtime crashed") -> Trial:
    return Trial(index=index, plan=PruningPlan(levels=(100, 0)), key="0-16", failure=failure, seconds={"build": 0.1})


def figures(*, search_accuracy: float = 0.95, test_accuracy: float | None = 0.94, **changes: Any) -> Figures:
    fields: dict[str, Any] = {
        "search_accuracy": search_accuracy,
        "test_accuracy": test_accuracy,
        "parameters": 48_000,
        "macs": 1_600_000,
        "size_bytes": 200_000,
        "measurement": measurement(2.73, ratio=Interval(1.0, 0.99, 1.01)),
    }
    return Figures(**{**fields, **changes})


def pruned_figures(**changes: Any) -> Figures:
    small: dict[str, Any] = {"parameters": 12_000, "macs": 400_000, "size_bytes": 50_000, "measurement": measurement()}
    return figures(**{**small, "search_accuracy": 0.93, "test_accuracy": 0.925, **changes})


def artifact(files: dict[str, str], **changes: Any) -> Artifact:
    fields: dict[str, Any] = {
        "id": "a1",
        "trial": 1,
        "plan": PruningPlan(levels=(50, 75)),
        "key": "8-4",
        "files": files,
        "before": pruned_figures(search_accuracy=0.80, test_accuracy=None),
        "after": pruned_figures(),
        "device_accuracy": 0.92,
        "host_accuracy": 0.92,
        "verified_images": 500,
        "chosen": True,
    }
    return Artifact(**{**fields, **changes})


def space() -> SearchSpace:
    return SearchSpace(
        groups=(
            Group(
                name="conv1",
                layers=("conv1", "bn1"),
                channels=16,
                kept={0: 16, 25: 12, 50: 8, 75: 4},
                macs=9,
                parameters=7,
            ),
            Group(
                name="block.conv1",
                layers=("block.conv1",),
                channels=16,
                kept={0: 16, 50: 8, 75: 4, 100: 0},
                macs=90,
                parameters=70,
                bypass="block.add",
            ),
        ),
        refused={"fc": "its width is the number of classes"},
        macs=1_600_000,
        parameters=48_000,
        step=4,
    )


def device_facts() -> DeviceFacts:
    return DeviceFacts(
        agent_sha256="ab" * 32,
        python="3.11.2",
        machine="aarch64",
        board="Raspberry Pi 4 Model B Rev 1.4",
        kernel="6.1.0-rpi7",
        cpu="Cortex-A72",
        cores=4,
        simd="neon",
        memory_mb=3794.0,
        disk_free_mb=12000.0,
        runtimes={"onnxruntime": "1.22.0"},
        sensors={"ina219": "ok"},
        governor="performance",
        clock_mhz=1500.0,
    )


def calibration(**changes: Any) -> Calibration:
    """A board whose processes differ by 0.4 %, calibrated with twenty measurements of each kind."""
    rates = [(False, 1, (0.12, 0.25, 0.41), (0.86, 0.71, 0.55)), (True, 1, (0.04, 0.05, 0.06), (0.95, 0.94, 0.95)),
             (False, 5, (0.02, 0.03, 0.02), (0.96, 0.95, 0.95))]  # fmt: skip
    checked = tuple(
        Checked(
            times=times, processes=processes, widened=widened, measurements=20, different=Rate(pairs, 0.03),
            covered=Rate(share, 0.05), half_width=0.009 / times**0.5,
        )
        for widened, processes, different, covered in rates
        for times, pairs, share in zip((1.0, 3.0, 9.0), different, covered, strict=True)
    )  # fmt: skip
    conditions = Conditions.of(Device(name="pi4", kind="raspberry-pi-4"), device_facts(), MeasureSettings())
    fields: dict[str, Any] = {
        "device": "pi4",
        "kind": "raspberry-pi-4",
        "date": "2026-11-30T10:00:00+00:00",
        "model": "resnet20",
        "conditions": conditions,
        "checked": checked,
        "spread": Spread(total=0.005, within=0.003, freedom=40.0),
    }
    return Calibration(**{**fields, **changes})
