from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from pipeline.measurement.retries import (
    COOLING_S,
    SHARED,
    describe_quarantine,
    explain_flags,
    fix_hint,
    measure_with_retries,
)
from pipeline.measurement.validity import INVALIDATING, why_invalid
from pipeline.records import Measurement
from tests.examples import measurement, power


def answering(*flags: tuple[str, ...], **changes: object) -> tuple[Callable[[float], Measurement], list[float]]:
    """A device that answers with these flags in turn, and the seconds it was given to cool each time."""
    cooling: list[float] = []

    def measure(settle_s: float) -> Measurement:
        cooling.append(settle_s)
        return measurement(flags=flags[len(cooling) - 1], **changes)

    return measure, cooling


def test_a_clean_measurement_is_taken_once() -> None:
    measure, cooling = answering(())
    assert "times_measured" not in measure_with_retries(measure, ci_rel=0.02, tolerant=False).conditions
    assert cooling == [0.0]


def test_an_imprecise_one_is_taken_once_more_without_cooling() -> None:
    measure, cooling = answering(("noisy",), ("noisy",))
    found = measure_with_retries(measure, ci_rel=0.001, tolerant=False)
    assert (found.flags, found.processes, cooling) == (("noisy",), 2, [0.0, 0.0])


def test_two_imprecise_ones_count_both_and_may_be_exact_enough_together() -> None:
    found = measure_with_retries(answering(("noisy",), ("noisy",))[0], ci_rel=0.02, tolerant=False)
    assert found.flags == ()
    assert found.ratio is not None
    assert found.ratio.half_width == pytest.approx(0.01 / math.sqrt(2), rel=1e-3)


def test_one_of_several_is_not_taken_again_for_being_imprecise() -> None:
    measure, cooling = answering(("noisy",))
    assert measure_with_retries(measure, ci_rel=0.02, tolerant=False, exact=False).flags == ("noisy",)
    assert len(cooling) == 1


def test_an_invalid_one_is_taken_twice_more_and_the_board_may_cool_before_each() -> None:
    measure, cooling = answering(("throttled",), ("throttled",), ("throttled",))
    found = measure_with_retries(measure, ci_rel=0.02, tolerant=False)
    assert cooling == [0.0, COOLING_S, COOLING_S]
    assert describe_quarantine(found) == "quarantined: throttled, measured 3 times"
    assert explain_flags(found) == INVALIDATING["throttled"]


def test_what_is_imprecise_stands_before_what_is_invalid_though_it_has_more_flags() -> None:
    measure, cooling = answering(("throttled",), ("noisy", "few_samples"))
    assert measure_with_retries(measure, ci_rel=0.02, tolerant=False).flags == ("noisy", "few_samples")
    assert len(cooling) == 2


def test_one_that_was_stopped_early_is_not_taken_again_for_being_imprecise() -> None:
    measure, cooling = answering(("noisy",), early=True)
    assert measure_with_retries(measure, ci_rel=0.02, tolerant=False).early
    assert len(cooling) == 1


@pytest.mark.parametrize("flag", sorted(SHARED))
def test_the_users_own_machine_is_forgiven_what_slows_both_networks_alike(flag: str) -> None:
    assert why_invalid(measure_with_retries(answering((flag,), (flag,))[0], ci_rel=0.02, tolerant=True)) == ()
    assert (
        why_invalid(measure_with_retries(answering((flag, "noisy"), (flag, "noisy"))[0], ci_rel=0.02, tolerant=True))
        == ()
    )


def test_other_programs_power_cannot_be_told_from_the_candidates() -> None:
    measure, _ = answering(*[("competing_load",)] * 3, power=power())
    assert why_invalid(measure_with_retries(measure, ci_rel=0.02, tolerant=True)) == ("competing_load",)


def test_throttling_is_forgiven_nowhere() -> None:
    assert why_invalid(measure_with_retries(answering(*[("throttled",)] * 3)[0], ci_rel=0.02, tolerant=True)) == (
        "throttled",
    )


def test_the_fix_is_what_can_be_done_there() -> None:
    assert "pipeline devices doctor pi" in fix_hint("pi", tolerant=False)
    assert "close other programs" in fix_hint("local", tolerant=True)
