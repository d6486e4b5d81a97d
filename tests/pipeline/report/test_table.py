"""Base against pruned, as text."""

from __future__ import annotations

import pytest

from pipeline.records import Figures, Interval
from pipeline.report.table import Row, comparison, count, size, uncertain
from tests.examples import figures, measurement, power, pruned_figures


def row(measure: str, base: Figures, pruned: Figures) -> Row:
    return next(r for r in comparison(base, pruned) if r.measure.startswith(measure))


def test_every_measure_has_its_row() -> None:
    assert [r.measure for r in comparison(figures(), pruned_figures())] == [
        "Accuracy, test split",
        "Latency, median",
        "Latency, 99th percentile",
        "Power",
        "Energy an inference",
        "Parameters",
        "MACs",
        "Model file",
    ]


def test_accuracy_changes_by_points() -> None:
    assert row("Accuracy", figures(), pruned_figures()) == Row(
        "Accuracy, test split", "94.00%", "92.50%", "−1.50 points"
    )


def test_without_the_test_split_on_both_sides_the_search_split_is_compared_and_named() -> None:
    found = row("Accuracy", figures(), pruned_figures(test_accuracy=None))
    assert found == Row("Accuracy, search split", "95.00%", "93.00%", "−2.00 points")


def test_latency_changes_by_the_paired_ratio_with_its_interval() -> None:
    found = row("Latency, median", figures(), pruned_figures())
    assert found == Row("Latency, median", "2.73 ms ±0.02", "1.31 ms ±0.03", "0.48× [0.47, 0.49]")


def test_latency_without_a_pair_says_so() -> None:
    pruned = pruned_figures(measurement=measurement(1.365, ratio=None))
    assert row("Latency, median", figures(), pruned).change == "0.50×, not paired"


def test_a_percentile_stands_on_the_footing_of_its_median() -> None:
    drifted = measurement(0.584, p99_ms=0.588, ratio=Interval(0.48, 0.479, 0.481))  # the board sped up after the base
    base, pruned = figures(measurement=measurement(1.233, p99_ms=1.3, ratio=None)), pruned_figures(measurement=drifted)
    assert row("Latency, median", base, pruned).pruned == "0.59 ms ±0.01"
    found = row("Latency, 99th percentile", base, pruned)
    assert (found.base, found.pruned, found.change) == ("1.3 ms", "0.596 ms", "0.46×")  # raw it were 0.588 ms
    alone = pruned_figures(measurement=measurement(0.584, p99_ms=0.588, ratio=None))
    assert row("Latency, 99th percentile", base, alone).pruned == "0.588 ms"


def test_power_that_nobody_measured_is_not_measured() -> None:
    assert row("Power", figures(), pruned_figures()) == Row("Power", "not measured", "not measured", "")
    only_one = pruned_figures(measurement=measurement(power=power()))
    assert row("Power", figures(), only_one).change == ""
    assert row("Energy", figures(), only_one).base == "not measured"


def test_power_names_its_sensor_and_changes_by_the_ratio_of_the_same_session() -> None:
    base = figures(measurement=measurement(2.73, power=power(4.0)))
    paired = {"power_ratio": Interval(0.812, 0.807, 0.817), "energy_ratio": Interval(0.4, 0.37, 0.43)}
    pruned = pruned_figures(measurement=measurement(power=power(3.0), **paired))
    assert row("Power", base, pruned) == Row(
        "Power", "4.00 W ±0.05 (ina219, board)", "3.25 W ±0.05 (ina219, board)", "0.812× [0.807, 0.817]"
    )
    assert row("Energy", base, pruned).change == "0.40× [0.37, 0.43]"


def test_power_without_a_ratio_of_the_session_is_divided() -> None:
    base = figures(measurement=measurement(2.73, power=power(4.0)))
    pruned = pruned_figures(measurement=measurement(power=power(3.0)))
    assert (row("Power", base, pruned).change, row("Energy", base, pruned).change) == ("0.75×", "0.75×")


@pytest.mark.parametrize("other", [{"source": "estimated"}, {"scope": "module"}])
def test_figures_of_two_kinds_of_sensor_are_never_compared(other: dict[str, str]) -> None:
    base = figures(measurement=measurement(2.73, power=power(4.0)))
    same = Interval(0.75, 0.74, 0.76)
    pruned = pruned_figures(measurement=measurement(power=power(3.0, **other), power_ratio=same, energy_ratio=same))
    assert (row("Power", base, pruned).change, row("Energy", base, pruned).change) == ("", "")


def test_a_power_of_zero_is_no_divisor() -> None:
    base = figures(measurement=measurement(2.73, power=power(0.0)))
    assert row("Power", base, pruned_figures(measurement=measurement(power=power(3.0)))).change == ""


def test_what_speaks_against_a_measurement_is_shown() -> None:
    pruned = pruned_figures(measurement=measurement(flags=("throttled", "noisy")))
    assert row("Doubts", figures(), pruned) == Row("Doubts", "none", "throttled, noisy", "")


@pytest.mark.parametrize(
    ("interval", "text"),
    [
        (Interval(1234.5, 1230.0, 1239.0), "1234 ms ±4"),
        (Interval(0.01234, 0.01231, 0.01237), "0.01234 ms ±0.00003"),
        (Interval(1.0, 0.9004, 1.0996), "1.0 ms ±0.1"),
        (Interval(1.5, 1.5, 1.5), "1.5 ms"),
        (Interval(1.5, 1.5, float("inf")), "1.5 ms"),
    ],
)
def test_a_figure_shows_the_digits_that_its_interval_supports(interval: Interval, text: str) -> None:
    assert uncertain(interval, "ms") == text


def test_counts_and_sizes_are_rounded_to_three_digits() -> None:
    assert [count(n) for n in (0, 999, 1000, 2_500_000_000)] == ["0", "999", "1 k", "2.5 G"]
    assert [size(n) for n in (0, 999, 50_000)] == ["0 B", "999 B", "50 kB"]


INNER = {"peak_activation_bytes": 2_000_000, "channels": 200, "sparsity": 0.0}


def test_activations_and_channels_have_their_rows_where_the_run_knows_them() -> None:
    base, pruned = figures(**INNER), pruned_figures(peak_activation_bytes=500_000, channels=150, sparsity=0.0)
    assert row("Peak activations", base, pruned) == Row("Peak activations", "2 MB", "500 kB", "0.25×")
    assert row("Channels", base, pruned) == Row("Channels", "200", "150", "25.0% gone")
    assert not [r for r in comparison(figures(**INNER), pruned_figures()) if r.measure == "Channels"]


def test_zero_weights_are_shown_only_where_there_are_any() -> None:
    base = figures(**INNER)
    assert not [r for r in comparison(base, base) if r.measure == "Zero weights"]
    assert row("Zero weights", base, figures(**{**INNER, "sparsity": 0.125})).pruned == "12.50%"
