"""Task: what a network is trained by and judged by.

A task is a file of ``pipeline/objective/tasks``, or an object in a file of the user's own (``file.py:TASK``), with

    METRIC = "mean IoU"                what its figure is called, wherever an accuracy would be shown
    loss(outputs, targets) -> Tensor   mean over a batch
    metric(predictions, targets) -> float
                                       over a whole split; from 0, worth nothing, to 1, perfect: larger is better

and may have

    collate(targets) -> batch          a batch of the targets of single examples; absent: stacked where they are tensors
                                       or numbers, else a list
    select(outputs) -> outputs         what of the network's answer is trained, exported and judged; absent: all of it
    postprocess(outputs) -> predictions
                                       what the answers to a batch mean, on the host; absent: the outputs themselves
    teacher_loss(outputs, taught) -> Tensor
                                       by how much a network's outputs miss its teacher's; absent: no distillation
    PUTS_INTO_CLASSES = True           the metric is the share of examples put into the right class, by the highest of
                                       the scores (N, classes); targets are int64 (N,)

A ``loss`` that takes ``label_smoothing`` and a ``teacher_loss`` that takes ``temperature`` are given the settings of
these names. ``select`` may take ``classes``, the number of the data's classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from numbers import Number
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import default_collate

from pipeline import structures
from pipeline.errors import ConfigError, DataError, PipelineError
from pipeline.import_path import parameters, said

CLASSIFICATION = "classification"
"""The task of a run that names none."""

_FIX = "fix it in the task's file"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A task's functions, those that its author left out filled in."""

    name: str
    """As the user names it."""
    metric_name: str
    loss: Callable[..., Tensor]
    metric: Callable[[Any, Any], float]
    collate: Callable[[Sequence[Any]], Any]
    select: Callable[..., Any]
    postprocess: Callable[[Any], Any]
    teacher_loss: Callable[..., Tensor] | None
    puts_into_classes: bool = False
    _taken: frozenset[str] = field(default=frozenset(), repr=False)
    """Settings that its functions take."""

    def shown(self, score: float) -> str:
        """Return a score in words, as a note has it: ``93.1%`` of right answers, else ``mean IoU 61.3%``."""
        return f"{score:.1%}" if self.puts_into_classes else f"{self.metric_name} {score:.1%}"

    def takes(self, setting: str) -> bool:
        """Return whether a function of the task takes a setting of fine-tuning, such as ``label_smoothing``."""
        return setting in self._taken

    def loss_of(self, outputs: Any, targets: Any, *, label_smoothing: float = 0.0) -> Tensor:
        """Return the mean loss of a batch.

        Raises:
            ConfigError: the task's function raises, or returns no single number.
        """
        settings = {"label_smoothing": label_smoothing} if self.takes("label_smoothing") else {}
        return self._number(self.loss, "loss", outputs, targets, settings)

    def distillation(self, outputs: Any, taught: Any, *, temperature: float) -> Tensor:
        """Return the mean distillation loss of a batch; only of a task that has one."""
        assert self.teacher_loss is not None  # the caller has asked
        settings = {"temperature": temperature} if self.takes("temperature") else {}
        return self._number(self.teacher_loss, "teacher_loss", outputs, taught, settings)

    def selected(self, outputs: Any, *, classes: int | None) -> Any:
        """Return what of an answer counts.

        Raises:
            ConfigError: the task's function raises.
        """
        settings = {"classes": classes} if self.takes("classes") else {}
        try:
            return structures.as_parts(self.select(outputs, **settings))
        except PipelineError:
            raise
        except Exception as error:  # a user's task may raise anything
            raise ConfigError(f"task {self.name}: select raised {said(error)}; {_FIX}") from error

    def predictions(self, outputs: Any) -> Any:
        """Return what the answers to a batch mean.

        Raises:
            ConfigError: the task's function raises.
        """
        try:
            return self.postprocess(outputs)
        except PipelineError:
            raise
        except Exception as error:  # a user's task may raise anything
            raise ConfigError(f"task {self.name}: postprocess raised {said(error)}; {_FIX}") from error

    def _number(
        self, function: Callable[..., Tensor], name: str, outputs: Any, targets: Any, settings: dict[str, float]
    ) -> Tensor:
        try:
            found: object = function(outputs, targets, **settings)
        except (IndexError, KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            if isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error):
                raise  # explained where it is known what to do about it
            raise ConfigError(f"task {self.name}: {name} raised {said(error)}; {_FIX}") from error
        if not isinstance(found, Tensor) or found.numel() != 1:
            shown = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise ConfigError(f"task {self.name}: {name} returned {shown}, expected a tensor of one number; {_FIX}")
        return found.reshape(())


class Judged:
    """Answers to the examples of a split, batch by batch, and the score that they come to."""

    def __init__(self, task: Task) -> None:
        """Begin with none."""
        self._task = task
        self._predictions: list[Any] = []
        self._targets: list[Any] = []

    def add(self, outputs: Any, targets: Any) -> None:
        """Take in the answers to one more batch; raises ConfigError as the task's functions do."""
        with torch.no_grad():
            self._predictions.append(self._task.predictions(outputs))
        self._targets.append(targets)

    def score(self) -> float:
        """Return the task's metric of all that was taken in.

        Raises:
            DataError: nothing was.
            ConfigError: the task's metric raises, or is no number from 0 to 1.
        """
        task = self._task
        if not self._targets:
            raise DataError(f"{task.metric_name} cannot be read without images; give at least one")
        try:
            predictions, targets = structures.joined(self._predictions), structures.joined(self._targets)
            found = float(task.metric(predictions, targets))
        except PipelineError:
            raise
        except Exception as error:  # a user's task may raise anything
            raise ConfigError(f"task {task.name}: metric raised {said(error)}; {_FIX}") from error
        if not (math.isfinite(found) and -_ROUNDING <= found <= 1 + _ROUNDING):
            raise ConfigError(
                f"task {task.name}: metric returned {found:g}, expected a number from 0 (worth nothing) to 1 "
                "(perfect); of an error, return how much less it is than that of a guess: max(0, 1 - error / "
                "error_of_a_guess)"
            )
        return min(1.0, max(0.0, found))


_ROUNDING = 1e-6


def task_of(made: object, name: str) -> Task:
    """Return the task that an object, a class or a module stands for.

    Raises:
        ConfigError: it lacks something; says what, and what it looks like.
    """
    for needed, example in _NEEDED.items():
        if not hasattr(made, needed):
            raise ConfigError(f"task {name} has no {needed}, {example}; see docs/extending/task.md")
    metric_name: object = getattr(made, "METRIC", None)
    if not isinstance(metric_name, str) or not metric_name.strip():
        raise ConfigError(f"task {name}: METRIC is {metric_name!r}, expected a name, such as 'mean IoU'")
    functions = {key: _function(made, key, name) for key in (*_FUNCTIONS, "loss", "metric")}
    taken = {
        parameter.name
        for function in (functions["loss"], functions["teacher_loss"], functions["select"])
        if function is not None
        for parameter in parameters(function)
    }
    return Task(
        name=name, metric_name=metric_name.strip(), loss=_there(functions["loss"]),
        metric=_there(functions["metric"]), collate=functions["collate"] or collated,
        select=functions["select"] or _itself, postprocess=functions["postprocess"] or _itself,
        teacher_loss=functions["teacher_loss"], puts_into_classes=bool(getattr(made, "PUTS_INTO_CLASSES", False)),
        _taken=frozenset(taken),
    )  # fmt: skip


_FUNCTIONS = ("collate", "select", "postprocess", "teacher_loss")
_NEEDED = {
    "METRIC": "what its figure is called: METRIC = 'mean IoU'",
    "loss": "what it is trained by: loss(outputs, targets) -> Tensor",
    "metric": "what it is judged by: metric(predictions, targets) -> float, from 0 to 1",
}


def collated(targets: Sequence[Any]) -> Any:
    """Return targets of single examples as a batch: stacked where they are tensors or numbers alike, else listed.

    >>> collated([1.5, 2.0]), collated([{"boxes": 1}, {"boxes": 2}])
    (tensor([1.5000, 2.0000]), [{'boxes': 1}, {'boxes': 2}])
    """
    first = targets[0]
    if isinstance(first, tuple) and all(isinstance(one, tuple) and len(one) == len(first) for one in targets):
        return tuple(collated(parts) for parts in zip(*targets, strict=True))
    if isinstance(first, Tensor) and all(isinstance(one, Tensor) and one.shape == first.shape for one in targets):
        return torch.stack(list(targets))
    if isinstance(first, Number) or (hasattr(first, "__array__") and not isinstance(first, Tensor)):
        found = default_collate(list(targets))
        return found.to(torch.float32) if found.is_floating_point() else found
    return list(targets)


def _function(made: object, key: str, name: str) -> Callable[..., Any] | None:
    found = getattr(made, key, None)
    if found is not None and not callable(found):
        raise ConfigError(f"task {name}: {key} is {found!r}, expected a function; see docs/extending/task.md")
    function: Callable[..., Any] | None = found
    return function


def _there(function: Callable[..., Any] | None) -> Callable[..., Any]:
    assert function is not None  # _NEEDED has seen to it
    return function


def _itself(outputs: Any) -> Any:
    return outputs
