"""Four corners: base and pruned network, each in float32 and in INT8 or FP16, as measured; no product of two gains."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.records import Artifact, Figures, Interval, Measurement, PrecisionDecision
from pipeline.report.table import NOT_MEASURED, precision_in_words, ratio, size

NOTE = (
    "Latencies over the float32 base's, each measured in turns with it. Gains of pruning and of a narrower precision "
    "do not multiply, so every pair was measured. In INT8, accuracy is the INT8 file's own; in FP16, that of the "
    "network computed in half precision on the host."
)


@dataclass(frozen=True, slots=True)
class Corner:
    """One network as text."""

    network: str
    accuracy: str
    latency: str
    size: str


def corners(base: Figures, decision: PrecisionDecision | None, chosen: Artifact) -> list[Corner]:
    """Return the four networks, those that there are; none where the run computed in float32."""
    if decision is None or decision.base is None or chosen.precision == "float32":
        return []
    parent, words = chosen.float_parent, precision_in_words(chosen.precision)
    # Of a run with conditions the uncut network in that precision is read on their mixture alone.
    base_accuracy = None if chosen.condition else decision.base.test_accuracy
    found = [
        Corner("base, float32", _share(base.test_accuracy), ratio(Interval(1.0, 1.0, 1.0)), size(base.size_bytes)),
        _corner(f"base, {words}", base_accuracy, decision.base.measurement, decision.base.size_bytes),
    ]
    if parent is not None:
        found.append(_corner("pruned, float32", parent.test_accuracy, parent.measurement, parent.size_bytes))
    after = chosen.after
    return [*found, _corner(f"pruned, {words}", after.test_accuracy, after.measurement, after.size_bytes)]


def alike(artifact: Artifact) -> str:
    """Return how many of the verified images device and host put into the same class, as the end of a sentence."""
    return "" if artifact.same_class is None else f", {artifact.same_class:.1%} into the same class"


def _corner(name: str, accuracy: float | None, measurement: Measurement, size_bytes: int) -> Corner:
    latency = NOT_MEASURED if measurement.ratio is None else ratio(measurement.ratio)
    return Corner(name, _share(accuracy), latency, size(size_bytes))


def _share(accuracy: float | None) -> str:
    return NOT_MEASURED if accuracy is None else f"{accuracy:.2%}"
