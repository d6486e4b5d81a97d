"""Table of base against pruned, each figure with its unit and interval."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from pipeline.measurement.drift import corrected, corrected_power, footing, same_sensor
from pipeline.records import Figures, Interval, Measurement, Power, PruningPlan, channel_sparsity

NOT_MEASURED = "not measured"
NOTE = (
    "Median latency of the pruned network: its ratio to the base model, measured in turns with it, times the base "
    "model's own, so that the board's drift does not count. The percentile is moved by the same factor as the median; "
    "power and energy are found as the median is, where the same sensor measured both."
)
"""Goes with the table."""
ZEROS = (
    "Zero weights make no dense runtime faster or cooler and no uncompressed file smaller: latency, power, energy and "
    "size are the base model's but for noise."
)
"""Goes with it as well where single weights were set to zero."""


def precision_in_words(precision: str) -> str:
    """Return what people call a precision.

    >>> precision_in_words("int8"), precision_in_words("fp16"), precision_in_words("float32")
    ('INT8', 'FP16', 'float32')
    """
    return precision if precision == "float32" else precision.upper()


@dataclass(frozen=True, slots=True)
class Row:
    """One measure of two networks, as text."""

    measure: str
    base: str
    pruned: str
    change: str
    """Empty where the two cannot be compared."""


class Weighed(Protocol):
    """A network's measures and its file's bytes, as ``Figures`` has them."""

    @property
    def parameters(self) -> int:
        """How many."""

    @property
    def macs(self) -> int:
        """For one image."""

    @property
    def peak_activation_bytes(self) -> int | None:
        """None: not known."""

    @property
    def channels(self) -> int | None:
        """None: not known."""

    @property
    def sparsity(self) -> float | None:
        """None: not known."""

    @property
    def size_bytes(self) -> int:
        """Of the model file."""


def comparison(base: Figures, pruned: Figures, metric: str = "accuracy") -> list[Row]:
    """Return the last table: accuracy, latency, power, energy, size; ± and [ , ] are 95 % confidence intervals.

    Args:
        metric: what the task calls its score, which stands in the accuracies.
    """
    before, after = base.measurement, pruned.measurement
    rows = [_accuracy(base, pruned, capitalised(metric)), *measured_rows(before, after), *weights(base, pruned)]
    if before.flags or after.flags:
        rows.append(Row("Doubts", ", ".join(before.flags) or "none", ", ".join(after.flags) or "none", ""))
    return rows


def measured_rows(before: Measurement, after: Measurement) -> list[Row]:
    """Return what the device measured of two networks, the second beside the first."""
    power, p99_ms = corrected_power(after, before), after.p99_ms * footing(after, before)
    return [
        Row(
            "Latency, median",
            uncertain(before.p50_ms, "ms"),
            uncertain(corrected(after, before), "ms"),
            _latency_change(before, after),
        ),
        Row("Latency, 99th percentile", f"{before.p99_ms:.3g} ms", f"{p99_ms:.3g} ms", times(p99_ms, before.p99_ms)),
        Row("Power", _power(before.power), _power(power), _power_change(before, after)),
        Row("Energy an inference", _energy(before.power), _energy(power), _energy_change(before, after)),
    ]


def notes(plan: PruningPlan) -> list[str]:
    """Return the sentences that go with the table of a plan's network."""
    return [NOTE, ZEROS] if plan.zeros else [NOTE]


def weights(base: Weighed, pruned: Weighed) -> list[Row]:
    """Return what needs no device to be known: parameters, MACs, activations, channels, size."""
    return [
        Row("Parameters", count(base.parameters), count(pruned.parameters), times(pruned.parameters, base.parameters)),
        Row("MACs", count(base.macs), count(pruned.macs), times(pruned.macs, base.macs)),
        *_inner(base, pruned),
        Row("Model file", size(base.size_bytes), size(pruned.size_bytes), times(pruned.size_bytes, base.size_bytes)),
    ]


def uncertain(interval: Interval, unit: str) -> str:
    """Return a figure with half its confidence interval, rounded to what the interval lets one see.

    >>> uncertain(Interval(1.3142, 1.2934, 1.3341), "ms"), uncertain(Interval(2.5, 2.5, 2.5), "W")
    ('1.31 ms ±0.02', '2.5 W')
    """
    half = interval.half_width
    if not 0 < half < math.inf:
        return f"{interval.value:.4g} {unit}"
    digits = decimals(half)
    return f"{interval.value:.{digits}f} {unit} ±{half:.{digits}f}"


def ratio(interval: Interval) -> str:
    """Return a ratio with its confidence interval.

    >>> ratio(Interval(0.4803, 0.4681, 0.4934))
    '0.48× [0.47, 0.49]'
    """
    digits = max(2, decimals(interval.half_width))
    return f"{interval.value:.{digits}f}× [{interval.low:.{digits}f}, {interval.high:.{digits}f}]"


def decimals(half_width: float) -> int:
    """Return the decimal places at which an uncertainty's first digit stands; two where it is unknown.

    >>> decimals(0.02), decimals(0.0096), decimals(30.0), decimals(0.0)
    (2, 2, 0, 2)
    """
    if not 0 < half_width < math.inf:
        return 2
    exponent = int(f"{half_width:.0e}".split("e")[1])  # rounds first: 0.0096 is 0.01
    return min(6, max(0, -exponent))


def count(number: int) -> str:
    """Return a count in thousands or millions.

    >>> count(950), count(271_690), count(40_813_184)
    ('950', '272 k', '40.8 M')
    """
    for scale, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= scale:
            return f"{number / scale:.3g} {prefix}"
    return str(number)


def size(number: int) -> str:
    """Return bytes in kB or MB, powers of ten.

    >>> size(512), size(1_085_000)
    ('512 B', '1.08 MB')
    """
    text = count(number)
    return f"{text}B" if text[-1].isalpha() else f"{text} B"


def capitalised(metric: str) -> str:
    """Return a metric's name as a row or a sentence begins with it.

    >>> capitalised("accuracy"), capitalised("mAP"), capitalised("mean IoU")
    ('Accuracy', 'mAP', 'Mean IoU')
    """
    first, _, rest = metric.partition(" ")
    return f"{first.capitalize()} {rest}".rstrip() if first.islower() else metric


def _accuracy(base: Figures, pruned: Figures, metric: str) -> Row:
    if base.test_accuracy is not None and pruned.test_accuracy is not None:
        name, before, after = f"{metric}, test split", base.test_accuracy, pruned.test_accuracy
    else:
        name, before, after = f"{metric}, search split", base.search_accuracy, pruned.search_accuracy
    points = 100 * (after - before)
    return Row(name, f"{before:.2%}", f"{after:.2%}", f"{points:+.2f} points".replace("-", "−"))


def _inner(base: Weighed, pruned: Weighed) -> list[Row]:
    """What runs made by older versions do not know; zero weights only where there are any."""
    rows = []
    if base.peak_activation_bytes is not None and pruned.peak_activation_bytes is not None:
        before, after = base.peak_activation_bytes, pruned.peak_activation_bytes
        rows.append(Row("Peak activations", size(before), size(after), times(after, before)))
    if base.channels is not None and pruned.channels is not None:
        gone = channel_sparsity(base.channels, pruned.channels)
        rows.append(Row("Channels", f"{base.channels}", f"{pruned.channels}", f"{gone:.1%} gone"))
    if base.sparsity or pruned.sparsity:
        rows.append(Row("Zero weights", f"{base.sparsity or 0:.2%}", f"{pruned.sparsity or 0:.2%}", ""))
    return rows


def _latency_change(before: Measurement, after: Measurement) -> str:
    """The paired ratio where there is one: what slowed the board for a while slowed both."""
    if after.ratio is not None:
        return ratio(after.ratio)
    return f"{times(after.p50_ms.value, before.p50_ms.value)}, not paired"


def _power(power: Power | None) -> str:
    if power is None:
        return NOT_MEASURED
    source = f"{power.source}, {power.scope}" + (", estimated" if power.estimated else "")
    return f"{uncertain(power.mean_w, 'W')} ({source})"


def _energy(power: Power | None) -> str:
    if power is None:
        return NOT_MEASURED
    return uncertain(power.energy_total_mj, "mJ") + (" (estimated)" if power.estimated else "")


def _power_change(before: Measurement, after: Measurement) -> str:
    if before.power is None or after.power is None or not same_sensor(before.power, after.power):
        return ""
    if after.power_ratio is not None:
        return ratio(after.power_ratio)
    return times(after.power.mean_w.value, before.power.mean_w.value)


def _energy_change(before: Measurement, after: Measurement) -> str:
    if before.power is None or after.power is None or not same_sensor(before.power, after.power):
        return ""
    if after.energy_ratio is not None:
        return ratio(after.energy_ratio)
    return times(after.power.energy_total_mj.value, before.power.energy_total_mj.value)


def times(after: float, before: float) -> str:
    """Return one figure over another; nothing where that cannot be said."""
    return f"{after / before:.2f}×" if before > 0 else ""
