"""Metrics of a comparison: words, unit, and whether they depend on the device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.store.task import ACCURACY


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One figure of a run."""

    label: str
    unit: str = ""
    scale: float = 1.0
    """Of the figure as it is shown over the figure as it is kept: 100 for a share shown in percent."""
    by_device: bool = False
    """Figures of two devices are not compared."""
    of_task: bool = False
    """Its label has the task's name for its score in place of ``accuracy``."""
    shown: bool = True
    """Whether its differences are tested on a terminal, and so belong to the family that Holm's p is adjusted for."""

    def label_for(self, metric: str) -> str:
        """Return what it is called where the task calls its score ``metric``.

        >>> METRICS["test_accuracy"].label_for("mean IoU"), METRICS["latency_ms"].label_for("mean IoU")
        ('test mean IoU', 'latency')
        """
        return self.label.replace(ACCURACY, metric) if self.of_task else self.label


METRICS: Mapping[str, Metric] = {
    "test_accuracy": Metric(label="test accuracy", unit="%", scale=100, of_task=True),
    "latency_ratio": Metric(label="latency of base", unit="×", by_device=True),
    "latency_ms": Metric(label="latency", unit="ms", by_device=True, shown=False),
    "power_w": Metric(label="power", unit="mW", scale=1000, by_device=True),
    "energy_mj": Metric(label="energy", unit="mJ", by_device=True),
    "power_estimated_w": Metric(label="power, estimated", unit="mW", scale=1000, by_device=True),
    "energy_estimated_mj": Metric(label="energy, estimated", unit="mJ", by_device=True),
    "channels_gone": Metric(label="channels gone", unit="%", scale=100, shown=False),
    "parameters": Metric(label="parameters", shown=False),
    "macs": Metric(label="MACs", shown=False),
    "size_bytes": Metric(label="model file", unit="B", shown=False),
    "search_accuracy": Metric(label="best search accuracy", unit="%", scale=100, shown=False, of_task=True),
    "hypervolume": Metric(label="hypervolume, search split", by_device=True),
    "trials": Metric(label="trials", shown=False),
    "seconds": Metric(label="time", unit="s", shown=False),
}

"""Best search accuracy and hypervolume are read on the split by which the search picked its networks, so they are too
high, and the more so, the more different networks were tried. The test accuracy has no such bias and is tested in the
former's place. For the latter there is no other: the validation split is read of finalists alone, after fine-tuning.
"""

LINES: Mapping[str, Metric] = {
    "accuracy": Metric(label="search accuracy", unit="points", scale=100, of_task=True),
    "latency_ratio": Metric(label="latency of base", unit="×"),
    "power_ratio": Metric(label="power of base", unit="×"),
}
"""What is regressed on pruning intensity: figures of the networks that the search measured, before fine-tuning."""
