from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from pipeline.errors import CutError, MeasureError, SessionLostError
from pipeline.evaluation.candidate_builder import Built
from pipeline.export.format import Skeleton
from pipeline.records import Measurement, PruningPlan, Trial
from pipeline.run.loop import search
from pipeline.store.device_usage import Watch
from tests.examples import candidate, measurement


class Counting:
    """A strategy that asks for (0,), (1,), (2,) … and writes down the order of things."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self._asked = 0

    def ask(self) -> PruningPlan:
        self.log.append(f"ask {self._asked}")
        self._asked += 1
        return PruningPlan(levels=(self._asked - 1,))

    def tell(self, trial: Trial) -> None:
        self.log.append(f"tell {trial.index}")


def build(plan: PruningPlan) -> Built:
    return Built(candidate(key=str(plan.levels[0])), Skeleton(b"probe", 5, "all alike"), {"cut": 0.5})


def measure(built: Built) -> tuple[Measurement, bool]:
    return measurement(), False


def judge(trial: Trial) -> Trial:
    return replace(trial, reward=float(trial.plan.levels[0]), feasible=True)


def test_without_lookahead_each_trial_is_told_before_the_next_is_asked() -> None:
    strategy = Counting()
    trials = list(search(strategy, build, measure, judge, trials=3))
    assert strategy.log == ["ask 0", "tell 0", "ask 1", "tell 1", "ask 2", "tell 2"]
    assert [t.index for t in trials] == [0, 1, 2]
    assert [t.reward for t in trials] == [0.0, 1.0, 2.0]
    assert trials[0].key == "0"
    assert trials[0].seconds.keys() == {"ask", "cut", "measure"}


def test_with_lookahead_the_next_is_built_while_one_is_measured() -> None:
    strategy, second_built = Counting(), threading.Event()

    def building(plan: PruningPlan) -> Built:
        if plan.levels == (1,):
            second_built.set()
        return build(plan)

    def measuring(built: Built) -> tuple[Measurement, bool]:
        assert second_built.wait(10)
        return measurement(), False

    trials = list(search(strategy, building, measuring, judge, trials=4, lookahead=1))
    assert strategy.log == ["ask 0", "ask 1", "tell 0", "ask 2", "tell 1", "ask 3", "tell 2", "tell 3"]
    assert [t.index for t in trials] == [0, 1, 2, 3]


def test_a_candidate_that_cannot_be_built_is_a_trial_with_a_failure() -> None:
    def building(plan: PruningPlan) -> Built:
        if plan.levels == (1,):
            raise CutError("the output's shape changed")
        return build(plan)

    strategy = Counting()
    trials = list(search(strategy, building, measure, judge, trials=3))
    assert [t.failure for t in trials] == [None, "the output's shape changed", None]
    assert trials[1].candidate is trials[1].measurement is trials[1].reward is None
    assert "tell 1" in strategy.log


def test_a_candidate_that_cannot_be_measured_or_judged_keeps_what_is_known_of_it() -> None:
    def measuring(built: Built) -> tuple[Measurement, bool]:
        if built.candidate.key == "0":
            raise MeasureError("the runtime crashed")
        return measurement(), True

    def judging(trial: Trial) -> Trial:
        if trial.index == 1:
            raise MeasureError("its energy was not measured")
        return judge(trial)

    crashed, unjudged, good = search(Counting(), build, measuring, judging, trials=3)
    assert crashed.failure == "the runtime crashed"
    assert crashed.candidate is not None
    assert crashed.seconds["measure"] >= 0
    assert (unjudged.failure, unjudged.reward) == ("its energy was not measured", None)
    assert unjudged.measurement == measurement()  # for the record
    assert (good.failure, good.cached) == (None, True)


def test_known_trials_are_told_again_and_not_tried_again() -> None:
    built: list[int] = []

    def building(plan: PruningPlan) -> Built:
        built.append(plan.levels[0])
        return build(plan)

    known = {t.index: t for t in search(Counting(), build, measure, judge, trials=2)}
    strategy = Counting()
    trials = list(search(strategy, building, measure, judge, trials=4, known=known))
    assert built == [2, 3]
    assert trials[:2] == [known[0], known[1]]
    assert strategy.log[:4] == ["ask 0", "tell 0", "ask 1", "tell 1"]


def test_a_known_trial_of_another_plan_is_kept_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    other = Trial(index=0, plan=PruningPlan(levels=(9,)), key="9")
    assert list(search(Counting(), build, measure, judge, trials=1, known={0: other})) == [other]
    assert "trial 0 was another plan before" in caplog.text


def test_a_later_round_goes_on_counting() -> None:
    assert [t.index for t in search(Counting(), build, measure, judge, trials=2, first=10)] == [10, 11]


@pytest.mark.parametrize("lookahead", [0, 1])
def test_a_lost_device_ends_the_search_after_what_was_finished(lookahead: int) -> None:
    measured: list[str] = []

    def measuring(built: Built) -> tuple[Measurement, bool]:
        measured.append(built.candidate.key)
        if built.candidate.key == "2":
            raise SessionLostError("board: cut off")
        return measurement(), False

    def collect(trials: Iterator[Trial]) -> None:
        for trial in trials:
            finished.append(trial.index)

    finished: list[int] = []
    with pytest.raises(SessionLostError, match="cut off"):
        collect(search(Counting(), build, measuring, judge, trials=9, lookahead=lookahead))
    assert finished == [0, 1]
    assert len(measured) <= 3 + lookahead
    assert not [t for t in threading.enumerate() if t.name.startswith("device")]


def test_asked_to_stop_it_finishes_what_is_begun() -> None:
    strategy = Counting()
    stopping = lambda: len([line for line in strategy.log if line.startswith("ask")]) == 2  # noqa: E731
    trials = list(search(strategy, build, measure, judge, trials=9, lookahead=1, stopping=stopping))
    assert [t.index for t in trials] == [0, 1]
    assert strategy.log[-2:] == ["tell 0", "tell 1"]


def test_what_was_put_aside_is_kept_for_the_record_and_no_strategy_is_told_its_figures() -> None:
    class Listening(Counting):
        def tell(self, trial: Trial) -> None:
            told.append(trial)

    def judging(trial: Trial) -> Trial:
        raise MeasureError("quarantined: throttled, measured 3 times")

    told: list[Trial] = []
    (trial,) = search(Listening(), build, measure, judging, trials=1)
    assert trial.measurement == measurement()
    assert (told[0].failure, told[0].measurement, told[0].reward) == (trial.failure, None, None)
    list(search(Listening(), build, measure, judging, trials=1, known={0: trial}))  # as when the run is resumed
    assert told[1].measurement is None


def test_the_watch_hears_what_new_trials_spend_their_time_on() -> None:
    watch = Watch()
    assert list(search(Counting(), build, measure, judge, trials=2, watch=watch))
    assert watch.usage(shared=True) is not None
    quiet = Watch()
    known = {t.index: t for t in search(Counting(), build, measure, judge, trials=2)}
    assert list(search(Counting(), build, measure, judge, trials=2, known=known, watch=quiet))
    assert quiet.usage(shared=True) is None
