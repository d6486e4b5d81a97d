"""A replay decides as the controller does on a board; what is judged is what ships."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from deploy.controller import KEEP, Frame, Policy
from pipeline.adaptation.choice import Choice, LearnedPoint, Point, controller_json
from pipeline.adaptation.cost_at_accuracy import Ratio
from pipeline.adaptation.learning import LearnedPolicy, train
from pipeline.adaptation.policies import FixedPolicy, FrameOracle, Keep, RulePolicy, RuleSettings
from pipeline.adaptation.replay import Trace, replay, trace
from pipeline.adaptation.streams import Streams, compose
from tests.answered_frames import drawn, ladder

ACCURACIES = [[0.8, 0.9, 0.85], [0.4, 0.5, 0.8], [0.3, 0.6, 0.7]]
KEPT = Keep(difference=30.0, margin=0.5, frames=5)
RULES = {
    "fixed": RuleSettings(start=1),
    "cascade": RuleSettings(start=0, escalate_to=1, threshold=0.7),
    "sticky, kept": RuleSettings(start=0, escalate_to=2, threshold=0.6, sticky_difference=40.0, keep=KEPT),
    "gated, kept": RuleSettings(start=1, gate=0.6, instead=2, escalate_to=0, threshold=0.3, keep=KEPT),
}


@pytest.fixture(scope="module", params=[float("inf"), 2.2], ids=["no deadline", "deadline"])
def streams(request: pytest.FixtureRequest) -> Streams:
    return compose(
        drawn(ACCURACIES), ladder([0.5, 1.0, 1.1], request.param), streams=4, length=400, coherent=True,
        slows_down=np.isfinite(request.param), seed=3,
    )  # fmt: skip


def settings_of(streams: Streams, rule: RuleSettings, learned: LearnedPoint | None, numbers: Any) -> dict[str, Any]:
    """Return controller.json."""
    none = Ratio(1.0, 1.0, 1.0)
    choice = Choice(
        floor=0.5, families={}, points={"normal": Point(rule=rule, learned=learned)}, ceiling=none, trained=numbers,
        prices=[], learned_ratio=None, ships="learned" if numbers else "rule", why="",
    )  # fmt: skip
    return controller_json(choice, streams.ladder, ["a", "b", "c"], ring=10)


def on_board(streams: Streams, settings: dict[str, Any], number: int) -> tuple[list[int], list[int], list[str]]:
    """Return what the shipped policy decides on one stream, and by what."""
    policy, first, last, by = Policy(settings), [], [], []
    for at in range(streams.shape[1]):
        place = streams.condition[number, at], streams.image[number, at], streams.view[number, at]
        statistics = streams.frames.statistics[place]
        found = policy.first(Frame(tuple(map(float, statistics)), streams.frames.thumbnails[place]))
        first.append(found)
        by.append(policy.by)
        if found == KEEP:
            last.append(KEEP)
            continue
        answers, margins = streams.answers[number, at], streams.margins[number, at].astype(float)
        slower, latencies = streams.slower[number, at], streams.ladder.latencies_ms
        second = policy.second(found, int(answers[found]), float(margins[found]), float(latencies[found] * slower))
        asked = [found] if second == found else [found, second]
        policy.done([int(answers[i]) for i in asked], asked, [float(margins[i]) for i in asked],
                    float(sum(latencies[i] for i in asked) * slower))  # fmt: skip
        last.append(second)
    return first, last, by


def assert_alike(streams: Streams, settings: dict[str, Any], traced: Trace) -> None:
    for number in range(streams.shape[0]):
        first, last, _ = on_board(streams, settings, number)
        assert first == traced.first[:, number].tolist()
        assert last == traced.last[:, number].tolist()


@pytest.mark.parametrize("name", RULES)
def test_the_rule_decides_in_a_replay_as_it_does_on_a_board(streams: Streams, name: str) -> None:
    rule = RULES[name]
    assert_alike(streams, settings_of(streams, rule, None, None), trace(streams, RulePolicy([rule])))


@pytest.mark.parametrize("two_stages", [False, True])
def test_the_learned_policy_does_too_and_leaves_strange_inputs_to_the_rule(streams: Streams, two_stages: bool) -> None:
    trained = train(streams, reference=1, two_stages=two_stages, seed=0, rounds=1)
    rule, point = RULES["cascade"], LearnedPoint(price=0.1, keep=KEPT)
    narrow = {**trained.numbers, "high": [0.75, *trained.numbers["high"][1:]]}  # kind2 is brighter
    trained = type(trained)(numbers=narrow, frames=trained.frames)
    policy = LearnedPolicy(trained, streams.ladder.costs.tolist(), [point.price], [point.keep], rule)
    settings = settings_of(streams, rule, point, trained)
    assert_alike(streams, settings, trace(streams, policy))
    decided = {by for number in range(streams.shape[0]) for by in on_board(streams, settings, number)[2]}
    assert decided == {"rule", "learned"}


def test_a_fixed_variant_costs_what_it_costs_and_the_oracle_less(streams: Streams) -> None:
    alone, oracle = replay(streams, FixedPolicy(range(3))), replay(streams, FrameOracle([1e-4]))
    assert alone.cost.mean(1) == pytest.approx(streams.ladder.costs)
    if not np.isfinite(streams.ladder.deadline_ms):
        assert alone.accuracy == pytest.approx(streams.right.mean(1).T)
        assert not alone.late.any()
    assert oracle.accuracy.mean() > alone.accuracy.mean(1).max()
    assert oracle.cost.mean() < alone.cost[1].mean()


def test_answers_are_kept_only_while_frames_are_alike(streams: Streams) -> None:
    found = replay(streams, RulePolicy([RuleSettings(start=1), RuleSettings(start=1, keep=KEPT)]))
    iid = compose(streams.frames, streams.ladder, streams=4, length=400, coherent=False, slows_down=False, seed=3)
    apart = replay(iid, RulePolicy([RuleSettings(start=1, keep=KEPT)]))
    assert not found.kept[0].any()
    assert found.kept[1].mean() > 0.2
    assert found.cost[1].mean() < 0.8 * found.cost[0].mean()
    assert apart.kept.mean() < 0.05
