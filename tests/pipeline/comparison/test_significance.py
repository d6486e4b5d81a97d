"""Welch, Hedges, Holm, Games and Howell: by hand, by tables, and by scipy's other ways to them."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from scipy import stats

from pipeline.comparison.significance import (
    adjusted,
    anova,
    differences,
    hedges_g,
    holm,
    never_varying,
    summary,
    unbiased,
)

THREE = {"a": [91.1, 91.4, 90.8, 91.2], "b": [90.2, 88.9, 91.0, 89.5, 90.1], "c": [92.0, 91.8, 92.3]}


def test_a_mean_comes_with_students_interval_and_a_single_figure_with_none() -> None:
    found = summary([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (found.mean, found.sd, found.se) == pytest.approx((3.0, math.sqrt(2.5), math.sqrt(0.5)))
    assert found.interval is not None
    assert found.interval.half_width == pytest.approx(
        2.776445 * math.sqrt(0.5), rel=1e-6
    )  # t of 4 degrees in any table
    alone = summary([0.9])
    assert (alone.mean, alone.sd, alone.se, alone.interval) == (0.9, None, None, None)


def test_figures_that_lean_on_their_neighbours_by_chance_are_not_merged_as_a_boards_blocks_are() -> None:
    rising = summary([float(i) for i in range(12)])  # seeds have no order that means anything
    assert rising.se == pytest.approx(np.std(range(12), ddof=1) / math.sqrt(12))


def test_a_difference_is_what_a_hand_computes() -> None:
    (found,) = differences({"one": [1.0, 2.0, 3.0], "other": [4.0, 6.0, 8.0]})
    # Variances 1 and 4: t = -4 / √(1/3 + 4/3), degrees (5/3)² / ((1/3)²/2 + (4/3)²/2), pooled deviation √2.5,
    # and c(4) = Γ(2) / (√2 Γ(1.5)) = 0.79788.
    assert found.t == pytest.approx(-4 / math.sqrt(5 / 3))
    assert found.degrees == pytest.approx(50 / 17)
    assert found.hedges_g is not None
    assert found.hedges_g.value == pytest.approx(-4 / math.sqrt(2.5) * 0.7978846, rel=1e-6)
    assert found.p_games_howell is None
    assert adjusted({"metric": [found]})["metric"][0].p_holm == found.p


def test_every_pair_agrees_with_scipys_own_tests() -> None:
    found = differences(THREE)
    assert [(d.one, d.other) for d in found] == [("a", "b"), ("a", "c"), ("b", "c")]
    for d in found:
        reference = stats.ttest_ind(THREE[d.one], THREE[d.other], equal_var=False)
        bounds = reference.confidence_interval(0.95)
        assert (d.t, d.degrees, d.p) == pytest.approx((reference.statistic, reference.df, reference.pvalue))
        assert (d.difference.low, d.difference.high) == pytest.approx((bounds.low, bounds.high))
        # Games and Howell: Welch's t on the studentised range of three means.
        assert d.p_games_howell == pytest.approx(
            stats.studentized_range.sf(math.sqrt(2) * abs(reference.statistic), 3, reference.df), rel=1e-4
        )


def test_tests_of_several_metrics_are_one_family() -> None:
    three, two = differences(THREE), differences({"a": THREE["a"], "b": THREE["b"]})
    found = adjusted({"one": three, "other": two, "none": differences({"a": [1.0, 1.0], "b": [2.0, 2.0]})})
    assert [d.p_holm for of in found.values() for d in of] == [
        *holm([d.p or 0 for d in [*three, *two]]), None,
    ]  # fmt: skip
    smallest = min(three, key=lambda d: d.p or 0)
    assert {d.p: d.p_holm for d in found["one"]}[smallest.p] == pytest.approx(4 * (smallest.p or 0))
    assert all(d.p_holm is None for d in three)  # alone they belong to no family


def test_welchs_anova_weighs_each_group_by_how_sure_its_mean_is() -> None:
    count, mean, variance = (
        np.array([f(g) for g in THREE.values()]) for f in (len, np.mean, lambda g: np.var(g, ddof=1))
    )
    weight = count / variance
    grand = (weight * mean).sum() / weight.sum()
    unsure = ((1 - weight / weight.sum()) ** 2 / (count - 1)).sum()
    f = (weight * (mean - grand) ** 2).sum() / 2 / (1 + 2 * 1 / 8 * unsure)  # Welch 1951, equation 24, k = 3
    found = anova(THREE)
    assert found is not None
    assert found.f == pytest.approx(f)
    assert found.p == pytest.approx(stats.f.sf(f, 2, 8 / (3 * unsure)))


def test_holms_p_are_those_of_the_textbook() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_hedges_factor_is_his_table_of_1981() -> None:
    exact = {2: 0.5642, 3: 0.7236, 4: 0.7979, 5: 0.8408, 10: 0.9228, 20: 0.9619, 50: 0.9849}
    assert {m: unbiased(m) for m in exact} == pytest.approx(exact, abs=1.5e-4)


def test_the_interval_of_an_effect_begins_at_zero_where_the_pooled_test_is_just_significant() -> None:
    one = np.array([0.3, -0.4, 0.9, 0.1, -0.6])
    pooled = math.sqrt(np.var(one, ddof=1) * 2 / 5)
    other = one + stats.t.ppf(0.975, 8) * pooled
    just = hedges_g(list(other), list(one))
    assert just is not None
    assert just.low == pytest.approx(0.0, abs=1e-6)
    assert just.high == pytest.approx(2 * just.value, rel=0.1)
    turned = hedges_g(list(one), list(other))
    assert turned is not None
    assert (turned.low, turned.high) == pytest.approx((-just.high, -just.low))


def test_a_group_that_never_varies_is_left_out_and_takes_no_test_from_the_others() -> None:
    more = {"never": [0.9, 0.9, 0.9], **THREE, "single": [5.0]}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = {(d.one, d.other): d for d in differences(more)}
        assert anova(more) == anova(THREE) is not None
    alone = {(d.one, d.other): d.p_games_howell for d in differences(THREE)}
    assert {pair: found[pair].p_games_howell for pair in alone} == alone
    assert None not in alone.values()
    assert found["never", "a"].p_games_howell is None
    assert found["never", "a"].p is not None  # Welch's t has the other's spread
    assert never_varying(more) == ("never",)


def test_groups_that_never_vary_are_not_tested_and_hurt_nobody() -> None:
    same = {"a": [28.0, 28.0, 28.0], "b": [30.0, 30.0], "c": [1.0, 2.0, 3.0], "single": [5.0]}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = {(d.one, d.other): d for d in differences(same)}
        assert anova(same) is None  # one alone varies
    assert list(found) == [("a", "b"), ("a", "c"), ("b", "c")]  # a single figure has no spread to test with
    assert [d.p_games_howell for d in found.values()] == [None] * 3
    never = found["a", "b"]
    assert (never.difference.value, never.t, never.p, never.hedges_g) == (-2.0, None, None, None)
    assert found["a", "c"].degrees == pytest.approx(2.0)  # all of the doubt is the third's
    assert never_varying(same) == ("a", "b")


def test_an_effect_far_beyond_doubt_still_has_an_interval() -> None:
    huge = hedges_g([1.0, 1.0001, 0.9999], [0.1, 0.1001, 0.1])
    assert huge is not None
    assert 1000 < huge.low < huge.value < huge.high
