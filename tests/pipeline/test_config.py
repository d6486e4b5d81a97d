from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config import RunConfig, load_config
from pipeline.errors import ConfigError


def written(folder: Path, text: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(text)
    return path


def test_without_a_file_the_defaults_hold() -> None:
    assert load_config(None, {}) == RunConfig()


def test_options_beat_the_file_and_absent_options_do_not(tmp_path: Path) -> None:
    path = written(tmp_path, "trials: 7\nseed: 3\ntarget: latency=0.4x\n")
    config = load_config(path, {"trials": 9, "seed": None, "target": ()})
    assert (config.trials, config.seed, config.target) == (9, 3, ("latency=0.4x",))


@pytest.mark.parametrize(
    "written_target", ["[latency=0.5x, size=300kB]", "latency=0.5x, size=300kB", "latency=0.5x size=300kB"]
)
def test_targets_may_be_a_list_or_a_line(tmp_path: Path, written_target: str) -> None:
    config = load_config(written(tmp_path, f"target: {written_target}\n"), {})
    assert [t.metric for t in config.targets] == ["latency", "size"]


def test_there_may_be_no_target(tmp_path: Path) -> None:
    assert load_config(written(tmp_path, "target: []\n"), {}).targets == ()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"target": ("density=0.2x", "latency=0.5x", "size=9kB"), "strategy": "purl"},
            "cannot be combined with latency=0.5x, size=9000B; zeros make no dense runtime faster or cooler",
        ),
        ({"target": ("density=0.2x",), "strategy": "purl", "criterion": "taylor"}, "leave criterion out"),
    ],
)
def test_zeros_are_set_for_no_other_target_and_by_no_criterion(options: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load_config(None, options)


def test_what_the_file_leaves_open_the_command_line_may_complete(tmp_path: Path) -> None:
    path = written(tmp_path, "target: density=0.2x\n")
    assert load_config(path, {"strategy": "purl"}).sets_zeros


def test_single_weights_become_zero_where_a_density_is_asked_for() -> None:
    assert load_config(None, {"target": ("density=0.2x",), "strategy": "purl"}).sets_zeros
    assert not load_config(None, {"strategy": "purl"}).sets_zeros


def test_the_older_section_of_the_dqn_is_read_as_its_strategy_options_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = written(tmp_path, "dqn: {hidden: 32, acquisition: expected}\n")
    assert load_config(path, {}).strategy_options == {"hidden": 32, "acquisition": "expected"}
    assert "dqn is called strategy_options now" in caplog.text


@pytest.mark.parametrize(
    ("strategy", "options"),
    [("dqn", {"hidden": 32, "acquisition": "expected"}), ("surrogate", {"acquisition": "expected"}), ("random", {})],
)
def test_a_stored_run_s_older_section_goes_to_the_strategies_that_read_it(
    strategy: str, options: dict[str, object]
) -> None:
    stored = {"strategy": strategy, "dqn": {"hidden": 32, "acquisition": "expected"}}
    assert RunConfig.model_validate(stored).strategy_options == options


def test_options_of_the_file_s_strategy_do_not_count_for_another_one_that_is_typed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = written(tmp_path, "strategy: rl_pruner\nstrategy_options: {noise: 0.1}\n")
    assert load_config(path, {"strategy": "rl-pruner"}).strategy_options == {"noise": 0.1}
    assert load_config(path, {"strategy": "random", "strategy_options": {"a": 1}}).strategy_options == {"a": 1}
    assert caplog.text == ""
    assert load_config(path, {"strategy": "random"}).strategy_options == {}
    assert "strategy_options are strategy rl_pruner's and do not count for random" in caplog.text


def test_a_layers_own_weights_are_read_by_the_groups_name(tmp_path: Path) -> None:
    path = written(tmp_path, "reward:\n  lambda: 0.1\n  layers:\n    layer1.0.conv1: {gamma: 0.5, lambda: 0.2}\n")
    reward = load_config(path, {"trials": 3}).reward
    assert reward.lambda_ == 0.1
    own = reward.layers["layer1.0.conv1"]
    assert (own.alpha, own.gamma, own.lambda_) == (None, 0.5, 0.2)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("trails: 3\n", r"run.yaml:1: trails: unknown key \(did you mean 'trials'\?\)"),
        ("seed: 1\nreward:\n  alhpa: 1\n", r"run.yaml:3: reward.alhpa: unknown key \(did you mean 'alpha'\?\)"),
        ("trials: 0\n", r"run.yaml:1: trials: should be greater than or equal to 1, found 0"),
        ("seed: 1\ntarget: latncy=0.5x\n", r"run.yaml:2: target: .*did you mean 'latency'"),
        ("target: [latency=0.5x, latency=20ms]\n", r"run.yaml:1: target: two targets for latency"),
        ("reward: {beta: .inf}\n", r"run.yaml:1: reward.beta: should be a finite number"),
        ("dqn: 3\n", r"run.yaml:1: dqn: expected a section of settings, found 3; write strategy_options"),
        ("dqn: {hidden: 3}\nstrategy_options: {hidden: 4}\n", r"run.yaml:1: .*both are there; leave dqn out"),
        ("strategy_options: 3\n", r"run.yaml:1: strategy_options: should be a valid dictionary, found 3"),
        ("seed: 1\nstrategy_options: {hidden: .inf}\n", r"run.yaml:2: strategy_options: .*not JSON compliant"),
        ("strategy_options: {from: 2024-01-01}\n", r"run.yaml:1: strategy_options: .*date is not JSON"),
        (
            "fine_tuning: {epochs: soon}\n",
            r"run.yaml:1: fine_tuning.epochs: should be a finite number from 0 on, or auto, found 'soon'",
        ),
        (
            "fine_tuning: {budget: 2 days}\n",
            r"run.yaml:1: fine_tuning.budget: should be a duration, such as 90s, 30m, 2h or 1h30m, found '2 days'",
        ),
        (
            "fine_tuning: {teacher_mix: 1.5}\n",
            r"run.yaml:1: fine_tuning.teacher_mix: should be less than or equal to 1",
        ),
    ],
)
def test_mistakes_in_the_file_are_told_with_their_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load_config(written(tmp_path, text), {})


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"trials": 0}, r"^--trials: should be greater than or equal to 1"),
        ({"target": ("speed=2x",)}, r"^--target: .*unknown metric"),
        ({"image_size": 4}, r"^--image-size: "),
    ],
)
def test_mistakes_in_an_option_name_the_option(options: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load_config(None, options)


def test_passes_and_budget_are_read_as_they_are_written(tmp_path: Path) -> None:
    section = load_config(written(tmp_path, "fine_tuning: {budget: 1h30m, epochs: 5}\n"), {}).fine_tuning
    assert (section.epochs, section.budget) == (5.0, 5400.0)
    again = RunConfig.model_validate(RunConfig(fine_tuning=section).model_dump(mode="json", by_alias=True))
    assert again.fine_tuning == section
    assert RunConfig().fine_tuning.epochs == "auto"


def test_quick_lies_below_what_is_written_and_typed(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("fine_tuning: {epochs: 2.5}\n")
    quick = load_config(path, {"seed": 4}, quick=True)
    assert (quick.trials, quick.fine_tuning.finalists, quick.fine_tuning.epochs, quick.seed) == (10, 1, 2.5, 4)
    assert quick.pruning.step == "processor"
    assert load_config(path, {"trials": 7}, quick=True).trials == 7
    assert load_config(path, {}).trials == 30


def test_an_onnx_file_brings_its_weights() -> None:
    assert RunConfig(model="nets/net.onnx").is_trained
    assert RunConfig(model="resnet20", weights=Path("net.pt")).is_trained
    assert not RunConfig(model="net.py:make").is_trained
