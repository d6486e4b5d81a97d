"""From a task's name, or ``file.py:TASK``, to the task."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from pipeline import plugins
from pipeline.errors import ConfigError, nearest
from pipeline.import_path import called, imported
from pipeline.objective.task import CLASSIFICATION, Task, task_of

TASKS = "pipeline.objective.tasks"


def load_task(spec: str) -> Task:
    """Return the task ``spec``.

    Args:
        spec: a file's name in ``pipeline/objective/tasks``; ``file.py:TASK`` or ``package.module:TASK``, where TASK is
            an object with a task's functions, or a class or function that gives one; ``file.py``, which has them.

    Raises:
        ConfigError: there is none, it cannot be imported, or it lacks something.
    """
    if spec.endswith(".py") or ":" not in spec:
        return task_of(_plugin(spec), spec)
    with imported(spec, ConfigError, "task") as named:
        is_made = not isinstance(named, type) and hasattr(named, "loss")
        return task_of(named if is_made else _called(named, spec), spec)


@cache
def classification() -> Task:
    """Return the task of a run that names none."""
    return load_task(CLASSIFICATION)


def portable_task(spec: str) -> str:
    """Return a task's name as it is understood elsewhere: without the folders that its file lies in here.

    >>> portable_task("/home/me/nets/boxes.py:TASK"), portable_task("segmentation")
    ('boxes.py:TASK', 'segmentation')
    """
    file, colon, name = spec.partition(".py")
    return f"{Path(file).name}{colon}{name}" if colon else spec


def _plugin(spec: str) -> object:
    try:
        return plugins.load(TASKS, spec)
    except ConfigError as error:
        if plugins.is_file(spec) or spec.replace("-", "_") in plugins.names(TASKS):
            raise
        known = [name.replace("_", "-") for name in plugins.names(TASKS)]
        raise ConfigError(
            f"no task {spec!r}{nearest(spec, known)}; there are: {', '.join(known)}; or name your own: file.py:TASK"
        ) from error


def _called(named: object, spec: str) -> object:
    if not callable(named):
        raise ConfigError(
            f"{spec} is a {type(named).__name__}; name an object with METRIC, loss and metric, or a class of such "
            "objects; see docs/extending/task.md"
        )
    return called(named, spec, ConfigError, {})
