"""Static plans: uniform ones, those of a global threshold, and the widest that fits."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pipeline.baselines.uniform_plans import above_threshold, from_widest, plans, scales, uniform
from pipeline.records import SearchSpace
from tests.examples import space
from tests.pipeline.pruning.networks import IMAGES, Chain, traced


def wide(step: int = 4) -> SearchSpace:
    first, second = space().groups
    return replace(space(), groups=(first, replace(second, channels=32)), step=step)


def test_uniform_plans_keep_the_same_share_of_every_group_rounded_up_to_the_boards_step() -> None:
    narrowing = uniform(wide(), {})
    assert narrowing(0.5) == {"conv1": 8, "block.conv1": 16}
    assert narrowing(0.55) == {"conv1": 12, "block.conv1": 20}
    assert narrowing(1 / 64) == {"conv1": 4, "block.conv1": 4}
    assert uniform(wide(step=1), {})(0.3) == {"conv1": 5, "block.conv1": 10}


def test_no_plan_goes_below_what_the_settings_keep() -> None:
    assert uniform(wide(), {"bn1": 10})(0.1) == {"conv1": 10, "block.conv1": 4}


def test_channels_that_come_and_go_together_stay_together() -> None:
    first, second = wide(step=1).groups
    shuffled = replace(wide(step=1), groups=(replace(first, width=8), second))
    assert uniform(shuffled, {})(0.3)["conv1"] == 8


def test_a_global_threshold_takes_from_the_group_that_matters_less() -> None:
    scores = {"conv1": torch.linspace(1, 2, 16), "block.conv1": torch.linspace(0.01, 0.5, 32)}
    narrowing = above_threshold(wide(step=1), {}, scores)
    assert narrowing(0.5) == {"conv1": 16, "block.conv1": 8}  # the 24 largest of 48
    assert narrowing(0.25) == {"conv1": 12, "block.conv1": 1}  # a group keeps one unit
    assert above_threshold(wide(step=4), {}, scores)(0.25) == {"conv1": 12, "block.conv1": 4}


def test_plans_go_from_wide_to_narrow_and_are_all_different() -> None:
    found = plans(uniform(wide(), {}), wide())
    widths = [tuple(kept.values()) for _, kept in found]
    assert widths[0] == (16, 28)
    assert widths[-1] == (4, 4)
    assert len(set(widths)) == len(widths)
    assert (16, 32) not in widths  # the base model is none
    assert sorted(widths, reverse=True) == widths


@pytest.mark.parametrize("limit", [0, 4, 12, 16, 99])
def test_the_widest_plan_that_fits_is_found_by_a_handful_of_looks(limit: int) -> None:
    found = plans(uniform(wide(step=1), {}), wide(step=1))
    looks: list[int] = []

    def fits(kept: dict[str, int]) -> bool:
        looks.append(kept["conv1"])
        return kept["conv1"] <= limit

    best = next(iter(from_widest(found, fits)), None)  # type: ignore[arg-type]
    fitting = [plan for plan in found if plan[1]["conv1"] <= limit]
    assert best == (fitting[0] if fitting else None)
    assert len(looks) <= 6


def test_scales_are_those_of_batch_norm_and_there_are_none_without_one() -> None:
    model = traced(Chain)
    with torch.no_grad():
        model.get_submodule("bn1").weight.copy_(torch.arange(8.0) - 4)
    first, second = space().groups
    normed = replace(space(), groups=(replace(first, name="conv1"),))
    found = scales(model, normed, IMAGES)
    assert found is not None
    assert found["conv1"].tolist() == [4, 3, 2, 1, 0, 1, 2, 3]
    assert scales(model, replace(normed, groups=(*normed.groups, replace(second, name="hidden"))), IMAGES) is None
