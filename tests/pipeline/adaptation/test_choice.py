"""What is chosen: variants that earn their place, and the rule unless there is something to be learnt."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.adaptation import policies
from pipeline.adaptation.choice import LEAST_CEILING, choose, outcome
from pipeline.adaptation.judgement import LEARNED, ORACLE, TIME_MIX, judge
from pipeline.adaptation.learning import LearnedPolicy, train
from pipeline.adaptation.policies import ConditionOracle, FixedPolicy, Keep, RuleSettings
from pipeline.adaptation.streams import Streams, compose
from pipeline.adaptation.variants import chosen_variants
from pipeline.events import Event, Note
from tests.answered_frames import drawn, ladder

EITHER = [[0.9, 0.6], [0.3, 0.8]]
"""Two variants of one cost, each of which is right where the other is not: whoever sees the brightness gains."""


def streams(accuracies: list[list[float]], costs: list[float], seed: int, coherent: bool = False) -> Streams:
    return compose(
        drawn(accuracies, seed=seed), ladder(costs), streams=8, length=300, coherent=coherent, slows_down=False,
        seed=seed,
    )  # fmt: skip


def test_a_policy_learns_which_variant_a_condition_wants_nearly_as_well_as_who_knows_it() -> None:
    costs = [1.0, 1.0]
    tuning, held_out = streams(EITHER, costs, seed=0), streams(EITHER, costs, seed=1)
    trained = train(tuning, reference=0, two_stages=False, seed=0)
    policy = LearnedPolicy(trained, costs, [0.05], [Keep()], RuleSettings(start=0))
    learned = outcome([held_out], policy).accuracy.mean()
    alone = outcome([held_out], FixedPolicy(range(2))).accuracy.mean(1)
    oracle = outcome([held_out], ConditionOracle([0.05])).accuracy.mean()
    assert learned > alone.max() + 0.5 * (oracle - alone.max())
    assert learned > alone.mean() + 0.1  # which is what choosing at random comes to


@pytest.fixture
def small_grids(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, values in (("THRESHOLDS", (0.4, 0.6, 0.8)), ("GATES", (0.5, 0.6, 0.7)), ("STICKY", (0.0,)),
                         ("KEPT_DIFFERENCES", (30.0,)), ("KEPT_MARGINS", (0.5,)), ("KEPT_FRAMES", (5,))):  # fmt: skip
        monkeypatch.setattr(policies, name, values)


@pytest.mark.usefixtures("small_grids")
def test_where_knowing_the_condition_saves_little_the_rule_ships_and_it_is_said() -> None:
    heard: list[Event] = []
    alike = [[0.8, 0.81], [0.6, 0.61]]
    found = choose([streams(alike, [0.5, 1.0], 0)], [streams(alike, [0.5, 1.0], 1)], plain=1, floor=0.6, seed=0,
                   listen=heard.append)  # fmt: skip
    assert found.ships == "rule"
    assert found.trained is None
    assert found.ceiling.value < LEAST_CEILING
    assert any(isinstance(event, Note) and "the rule ships" in event.text for event in heard)


@pytest.mark.usefixtures("small_grids")
def test_every_opponent_is_in_the_table_and_no_mix_beats_the_oracle() -> None:
    accuracies = [[0.85, 0.9, 0.75], [0.3, 0.4, 0.8]]
    costs = [0.5, 1.0, 1.0]
    tuning = [streams(accuracies, costs, 0, coherent) for coherent in (True, False)]
    found = choose(tuning, [streams(accuracies, costs, 1)], plain=1, floor=None, seed=0, listen=lambda _: None)
    judged = judge(streams(accuracies, costs, 2), found, tuning, coherent=False, seen=True)
    names = [one.name for one in judged.methods]
    wanted = ["v0", "v1", "v2", TIME_MIX, "cascade", "gate", "ALERT-like", "cascade, answers kept", "rule", ORACLE]
    assert [name for name in wanted if name not in names] == []
    assert (LEARNED in names) == (found.trained is not None)
    assert judged.best_fixed in ("v0", "v1", "v2")
    oracle, mix = judged.method(ORACLE), judged.method(TIME_MIX)
    assert oracle is not None
    assert mix is not None
    for mine, theirs in zip(oracle.cost_below, mix.cost_below, strict=True):
        assert mine is not None
        assert theirs is not None
        assert mine <= theirs + 1e-9
    rule = judged.method("rule")
    assert rule is not None
    assert rule.accuracy is not None


def test_a_variant_that_another_beats_everywhere_is_dropped_and_the_plain_one_stays() -> None:
    frames = drawn([[0.7, 0.5, 0.9], [0.5, 0.3, 0.6]])
    kept, dropped = chosen_variants(frames, ladder([0.4, 0.5, 1.0]), most=4, keep=["v2"])
    assert kept == [0, 2]
    assert [one.name for one in dropped] == ["v1"]
    assert dropped[0].why == "v0 costs no more and answers no worse in any condition"
    kept, _ = chosen_variants(frames, ladder([0.4, 0.5, 1.0]), most=1, keep=["v2"])
    assert kept == [2]


def test_the_same_seed_gives_the_same_streams() -> None:
    one, other, another = (streams(EITHER, [1.0, 1.0], seed) for seed in (4, 4, 5))
    assert np.array_equal(one.image, other.image)
    assert not np.array_equal(one.image, another.image)
    assert 0.1 < (one.condition == 0).mean() < 0.8
