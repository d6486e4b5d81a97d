"""What run.yaml says of training, and what becomes of it."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest

from pipeline.config import RunConfig, load_config
from pipeline.errors import ConfigError
from pipeline.training.settings import FineTuning, settings_of


def written(folder: Path, text: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(text)
    return path


def test_the_template_says_the_defaults_of_training() -> None:
    told = load_config(Path(str(files("pipeline") / "templates" / "run.yaml")), {})
    assert (told.fine_tuning, told.base_training) == (RunConfig().fine_tuning, RunConfig().base_training)
    assert (told.accelerator, told.checkpoint_s) == ("auto", 30)


def test_a_base_model_is_trained_without_a_teacher_and_with_smoothed_labels() -> None:
    base = settings_of(RunConfig().base_training, epochs=20.0, seed=3)
    assert base == FineTuning(
        epochs=20.0, learning_rate=0.1, teacher_mix=0.0, temperature=1.0, label_smoothing=0.05, seed=3
    )
    fine = settings_of(RunConfig().fine_tuning, epochs=3.0, min_steps=150, seed=3)
    assert fine == FineTuning(epochs=3.0, min_steps=150, learning_rate=0.03, seed=3)


@pytest.mark.parametrize("key", ["on", '"on"'])
def test_the_penalty_is_read_though_yaml_takes_a_bare_on_for_true(tmp_path: Path, key: str) -> None:
    path = written(tmp_path, f"base_training:\n  sparsity: {{l1: 1e-4, {key}: weights}}\n")
    for told in (load_config(path, {}), RunConfig.model_validate(load_config(path, {}).model_dump(mode="json"))):
        settings = settings_of(told.base_training, epochs=1.0, seed=0)
        assert (settings.l1, settings.l1_on) == (1e-4, "weights")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "fine_tuning:\n  sparsity:\n    on: biases\n",
            r"run.yaml:3: fine_tuning.sparsity.on: .*'batch_norm' or 'weights'",
        ),
        ("fine_tuning: {warmup: 1.0}\n", r"run.yaml:1: fine_tuning.warmup: should be less than 1"),
        ("base_training: {batch_size: 1}\n", r"base_training.batch_size: should be greater than or equal to 2"),
        ("accelerator: tpu\n", r"run.yaml:1: accelerator: should be 'auto', 'cpu' or 'cuda'"),
    ],
)
def test_mistakes_are_told_with_their_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load_config(written(tmp_path, text), {})
