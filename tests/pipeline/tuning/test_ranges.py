"""What --search means, and every mistake in it."""

from __future__ import annotations

import pytest

from pipeline.config import RunConfig
from pipeline.errors import ConfigError
from pipeline.tuning.ranges import Choice, Range, parse, parse_all
from pipeline.tuning.settings import changed, kind_of


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("reward.alpha=0.5:2", Range("reward.alpha", 0.5, 2.0)),
        ("reward.lambda=0,0.1", Choice("reward.lambda", (0.0, 0.1))),
        ("dqn.learning_rate=1e-4:1e-2:log", Range("strategy_options.learning_rate", 1e-4, 1e-2, log=True)),
        ("dqn.learning_rate=1e-4:1e-2:log:3", Choice("strategy_options.learning_rate", (1e-4, 1e-3, 1e-2))),
        ("strategy_options.n_step=1,3", Choice("strategy_options.n_step", (1, 3))),
        ("fine_tuning.sparsity.l1=0:1:2", Choice("fine_tuning.sparsity.l1", (0.0, 1.0))),
        ("trials=10:20:11", Choice("trials", tuple(range(10, 21)))),
        ("threads=1,2", Choice("threads", (1, 2))),  # may be absent: still a number
    ],
)
def test_ranges_and_lists_are_read_by_the_kind_of_their_setting(text: str, means: object) -> None:
    found = parse(text)
    assert found == means
    assert {type(value) for value in found.points()} == {kind_of(found.path)}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("reward.alhpa=1,2", "is no setting (did you mean 'reward.alpha'?); numbers there: reward.alpha, reward.beta"),
        ("reward.layers=1,2", "reward.layers is no number"),
        ("strategy=1,2", "strategy is no number; numbers there: image_size,"),
        ("strategy_options.hiden=1,2", "did you mean 'strategy_options.hidden'?); numbers there of strategy dqn: "),
        (
            "strategy_options.acquisition=1,2",
            "strategy_options.acquisition is no number; numbers there of strategy dqn: "
            "strategy_options.single_cut_share, strategy_options.hidden",
        ),
        ("mean=1,2", "mean is no number"),
        ("reward.alpha", "no values; write PATH=LOW:HIGH"),
        ("reward.alpha=", "no values"),
        ("reward.alpha=1,x", "should be a number, found 'x'"),
        ("reward.alpha=1,", "should be a number, found ''"),
        ("trials=1.5:3", "should be a whole number, found '1.5'"),
        ("reward.alpha=2:1", "the range 2:1 is empty"),
        ("reward.alpha=1:1", "the range 1:1 is empty"),
        ("reward.alpha=1:inf", "should be finite"),
        ("reward.alpha=0:1:log", "begins above 0, found 0"),
        ("reward.alpha=0:1:1", "2 points or more"),
        ("reward.alpha=0:1:3:4", "write PATH=LOW:HIGH"),
        ("reward.alpha=1,1.0", "a value is given twice in 1,1.0"),
    ],
)
def test_a_mistake_says_what_was_found_and_what_would_be_right(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as told:
        parse(text)
    assert says in str(told.value)
    assert text.partition("=")[0] in str(told.value)


def test_a_strategy_s_own_settings_are_those_of_the_one_that_runs() -> None:
    assert parse("strategy_options.clip=0.1:0.3", "rl_pruner") == Range("strategy_options.clip", 0.1, 0.3)
    with pytest.raises(
        ConfigError, match=r"strategy_options\.hidden is no setting; numbers there of strategy random: none"
    ):
        parse("dqn.hidden=1,2", "random")
    with pytest.raises(ConfigError, match=r"strategy_options\.hidden is given twice"):
        parse_all(["dqn.hidden=1,2", "strategy_options.hidden=1:2"])


@pytest.mark.parametrize(
    ("path", "now"),
    [("dqn.hidden", "hidden"), ("dqn.growth", "retrain_growth"), ("strategy_options.growth", "retrain_growth")],
)
def test_an_old_name_of_a_strategy_s_own_setting_is_searched_by_its_new_one(
    path: str, now: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert parse(f"{path}=2,3") == parse(f"strategy_options.{now}=2,3")
    assert caplog.messages == [f"--search: {path} is called strategy_options.{now} now; the old name still counts"]


def test_a_strategy_s_own_settings_are_put_among_its_options_and_have_to_fit() -> None:
    path = "strategy_options.hidden"
    assert changed(RunConfig(), {path: 32}).strategy_options == {"hidden": 32}
    with pytest.raises(ConfigError, match=r"strategy_options\.hidden: should be greater than or equal to 1, found 0"):
        changed(RunConfig(), {path: 0})


def test_without_a_search_or_with_one_setting_twice_nothing_begins() -> None:
    with pytest.raises(ConfigError, match="nothing to search"):
        parse_all([])
    with pytest.raises(ConfigError, match=r"reward\.alpha is given twice"):
        parse_all(["reward.alpha=1,2", "reward.alpha=1:2"])


def test_settings_are_put_where_run_yaml_has_them_and_have_to_fit() -> None:
    base = RunConfig()
    told = changed(base, {"reward.lambda": 0.5, "fine_tuning.sparsity.l1": 1e-4, "trials": 7})
    assert (told.reward.lambda_, told.fine_tuning.sparsity.l1, told.trials) == (0.5, 1e-4, 7)
    assert changed(told, {"reward.lambda": 0.0, "fine_tuning.sparsity.l1": 0.0, "trials": base.trials}) == base
    with pytest.raises(ConfigError, match=r"--search reward\.alpha: should be greater than or equal to 0, found -1"):
        changed(base, {"reward.alpha": -1.0})
