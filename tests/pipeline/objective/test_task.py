"""Tasks: what a file has to hold, what is made of what it leaves out, and what a score may be."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.errors import ConfigError, DataError
from pipeline.objective.load import classification, load_task, portable_task
from pipeline.objective.task import Judged, Task, collated, task_of
from pipeline.training.loss import loss_of
from pipeline.training.settings import FineTuning

OWN = """
METRIC = "within 0.1"

def loss(outputs, targets):
    return (outputs - targets).abs().mean()

def metric(predictions, targets):
    return float(((predictions - targets).abs() < 0.1).float().mean())


class Doubled:
    METRIC = "doubled"

    def loss(self, outputs, targets):
        return 2 * loss(outputs, targets)

    def metric(self, predictions, targets):
        return metric(predictions, targets)


TASK = Doubled()
NUMBER = 3
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    file = tmp_path / "own.py"
    file.write_text(OWN)
    return file


def made(**changes: Any) -> Task:
    functions = {"METRIC": "score", "loss": lambda o, t: (o - t).mean(), "metric": lambda _, __: 0.5}
    return task_of(SimpleNamespace(**{**functions, **changes}), "made")


def test_a_task_is_a_file_an_object_in_it_or_a_class_of_such_objects(own: Path) -> None:
    zeros, ones = torch.zeros(2), torch.ones(2)
    losses = [load_task(f"{own}{which}").loss_of(zeros, ones).item() for which in ("", ":TASK", ":Doubled")]
    assert losses == [1.0, 2.0, 2.0]
    assert load_task(str(own)).metric_name == "within 0.1"
    assert portable_task(f"{own}:TASK") == "own.py:TASK"


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("segmentatoin", "no task 'segmentatoin'.*did you mean 'segmentation'.*or name your own: file.py:TASK"),
        ("missing.py:TASK", "no such file: missing.py"),
        ("OWN:NUMBER", "is a int; name an object with METRIC, loss and metric"),
        ("OWN:TASKS", "nothing is named 'TASKS' there"),
    ],
)
def test_a_task_that_is_not_there_is_told_with_what_there_is(own: Path, spec: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_task(spec.replace("OWN", str(own)))


@pytest.mark.parametrize("lacking", ["METRIC", "loss", "metric"])
def test_a_task_that_lacks_something_says_what(lacking: str) -> None:
    functions = {"METRIC": "score", "loss": print, "metric": print}
    del functions[lacking]
    with pytest.raises(ConfigError, match=f"task made has no {lacking}, what"):
        task_of(SimpleNamespace(**functions), "made")


@pytest.mark.parametrize(("value", "counted"), [(0.25, 0.25), (1 + 1e-9, 1.0), (-1e-9, 0.0)])
def test_a_score_lies_between_worth_nothing_and_perfect(value: float, counted: float) -> None:
    judged = Judged(made(metric=lambda _, __: value))
    judged.add(torch.zeros(1), torch.zeros(1))
    assert judged.score() == counted


@pytest.mark.parametrize("value", [-0.5, 1.5, float("nan")])
def test_a_metric_beyond_that_is_refused_with_what_to_return(value: float) -> None:
    judged = Judged(made(metric=lambda _, __: value))
    judged.add(torch.zeros(1), torch.zeros(1))
    with pytest.raises(ConfigError, match=r"expected a number from 0 .* to 1 .*max\(0, 1 - error"):
        judged.score()


def test_a_metric_sees_the_whole_split_once() -> None:
    seen: list[tuple[Any, Any]] = []

    def metric(predictions: Any, targets: Any) -> float:
        seen.append((predictions, targets))
        return 1.0

    judged = Judged(made(metric=metric, postprocess=lambda outputs: {"class": outputs.argmax(1)}))
    for start in (0, 2):
        judged.add(torch.eye(4)[start : start + 2], [{"boxes": start}, {"boxes": start + 1}])
    assert judged.score() == 1.0
    (predictions, targets) = seen[0]
    assert predictions["class"].tolist() == [0, 1, 2, 3]
    assert [target["boxes"] for target in targets] == [0, 1, 2, 3]


def test_nothing_can_be_scored_without_examples() -> None:
    with pytest.raises(DataError, match="cannot be read without images"):
        Judged(classification()).score()


def test_what_a_user_s_function_raises_names_the_function() -> None:
    def fails(*_: Any) -> Tensor:
        raise ValueError("no such target")

    for name, call in {
        "loss": lambda task: task.loss_of(torch.zeros(1), torch.zeros(1)),
        "teacher_loss": lambda task: task.distillation(torch.zeros(1), torch.zeros(1), temperature=2.0),
        "select": lambda task: task.selected(torch.zeros(1), classes=3),
        "postprocess": lambda task: task.predictions(torch.zeros(1)),
    }.items():
        with pytest.raises(ConfigError, match=f"task made: {name} raised ValueError: no such target"):
            call(made(**{name: fails}))


def test_a_loss_that_is_no_single_number_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"loss returned \(3,\), expected a tensor of one number"):
        made(loss=lambda o, t: o - t).loss_of(torch.zeros(3), torch.zeros(3))


def test_settings_reach_the_functions_that_take_them() -> None:
    heard: dict[str, float] = {}

    def loss(outputs: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
        heard["label_smoothing"] = label_smoothing
        return (outputs - targets).sum()

    def teacher_loss(outputs: Tensor, taught: Tensor, temperature: float) -> Tensor:
        heard["temperature"] = temperature
        return (outputs - taught).sum()

    settings = FineTuning(label_smoothing=0.1, temperature=3.0, teacher_mix=0.25)
    value = loss_of(
        torch.ones(1), torch.zeros(1), torch.ones(1) * 3, settings, made(loss=loss, teacher_loss=teacher_loss)
    )
    assert heard == {"label_smoothing": 0.1, "temperature": 3.0}
    assert value.item() == pytest.approx(0.75 * 1 + 0.25 * -2)
    assert not made().takes("label_smoothing")


def test_targets_are_stacked_where_that_is_possible() -> None:
    assert torch.equal(collated([torch.zeros(2), torch.ones(2)]), torch.tensor([[0.0, 0.0], [1.0, 1.0]]))
    assert collated([1.5, 2.5]).dtype == torch.float32
    pair = collated([(torch.zeros(1), 1), (torch.ones(1), 2)])
    assert torch.equal(pair[0], torch.tensor([[0.0], [1.0]]))
    assert pair[1].tolist() == [1, 2]
    uneven = [torch.zeros(1), torch.zeros(2)]
    assert collated(uneven) == uneven
