"""A finished run as a comparison reads it: its settings by name, and one figure for each metric."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from scipy.special import ndtri

from pipeline.comparison.hypervolume import of_networks
from pipeline.config import RunConfig, is_model_file
from pipeline.errors import UserError
from pipeline.measurement.drift import corrected, corrected_power
from pipeline.records import Artifact, Figures, Interval, Measurement, SearchSpace, Trial, channel_sparsity
from pipeline.search.reward import channels_gone
from pipeline.store import Store
from pipeline.store.conditions import base_of, chosen_artifacts, why_several
from pipeline.store.facts import (
    BASE_WEIGHTS,
    CLASSES,
    CONFIG,
    DEVICE,
    DEVICE_FACTS,
    GIT,
    PRECISION,
    SECONDS,
    SEED,
    SPACE,
    SPLITS,
    StoredSplits,
)
from pipeline.store.runs import FINISHED
from pipeline.store.spaces import require_plan
from pipeline.store.task import ACCURACY, metric_name, puts_into_classes

NOT_SETTINGS = ("seed", "checkpoint_s")
"""What makes runs repetitions of each other, and what changes no result."""
STRATEGY_OPTIONS = "strategy_options."
"""Begins the names of the strategy's own settings."""
RIVAL = "rival"
"""Begins the name of a rival among baselines: a network that the user might have taken instead."""
DEVICE_SETTINGS = ("device", "kind of device", "board", "runtime", "sensor")
"""Settings that tell devices apart: latency, power and energy are compared where all of them agree."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One network that the search measured, before fine-tuning."""

    intensity: float | None
    """Share of each group's channels that is gone, mean over groups; None: it was cut from an earlier round's."""
    accuracy: float
    latency_ratio: float
    power_ratio: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One run, or one static baseline of a run."""

    run: str
    seed: int
    baseline: str | None = None
    settings: Mapping[str, str]
    """The settings of the run and of its device: name → value."""
    data: str
    """The data set's classes, labels and file names, as a checksum: equal data has equal test images."""
    program: str
    """Version control's name of the program's state; empty: not known."""
    figures: Mapping[str, float]
    """By metric; what was not measured is absent."""
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    """Of those figures that have one by themselves: by the test images, or by the measurement's blocks."""
    points: tuple[Point, ...] = ()
    metric: str = ACCURACY
    """What the task calls its score, which stands in the accuracies."""

    @property
    def device(self) -> tuple[str, ...]:
        """What has to agree before two latencies may be compared."""
        return tuple(self.settings.get(name, "") for name in DEVICE_SETTINGS)


def read(store: Store) -> Entry:
    """Return a run's entry.

    Raises:
        UserError: it is not finished, or has no test figure; says so without naming the run.
        StoreError: it is damaged.
    """
    chosen = next(iter(chosen_artifacts(store)), None)
    if store.status != FINISHED or chosen is None:
        raise UserError(f"it is {store.status}, so that no network was chosen yet")
    if problem := why_several(store, "what is compared is"):
        raise UserError(f"it {problem}")
    if chosen.after.test_accuracy is None:
        raise UserError("the test accuracy of its chosen network is missing")
    base = base_of(store, chosen)
    points = points_of(store)
    figures, intervals = figures_of(chosen.after, base, answered_images(store))
    return Entry(
        run=store.id,
        seed=store.get(SEED) or 0,
        settings=settings_of(store, chosen),
        data=_splits(store).get("checksum", ""),
        program=store.get(GIT) or "",
        figures=figures | _of_the_search(store, points),
        intervals=intervals,
        points=points,
        metric=metric_name(store),
    )


def test_images(store: Store) -> int:
    """Return how many images the test split holds; 0: an older run did not say."""
    return _splits(store).get("test", 0)


def answered_images(store: Store) -> int:
    """Return on how many test images a share of right answers was read; 0: unknown, or the score is no such share."""
    return test_images(store) if puts_into_classes(store) else 0


def _splits(store: Store) -> StoredSplits:
    splits = store.get(SPLITS)
    return StoredSplits() if splits is None else splits


def settings_of(store: Store, chosen: Artifact) -> dict[str, str]:
    """Return a run's settings and device by name, as text; places of files do not count, their content does.

    Settings that a newer version added have their defaults; those of a run that this version cannot read stand as the
    run has them, so that runs of one version compare.
    """
    stored = store.required(CONFIG)
    try:
        settings = RunConfig.model_validate(stored).model_dump(mode="json", by_alias=True)
    except ValidationError:
        settings = dict(stored)
    found = {key: value for key, value in _flat(settings).items() if key not in NOT_SETTINGS}
    found["precision"] = _precision(store)
    found["model"] = _file_name(found.get("model")) or "default"
    if trainer := _file_name(found.get("fine_tuning.trainer")):
        found["fine_tuning.trainer"] = trainer
    found["data"] = str(settings.get("data")).partition(":")[0]
    found["task"] = _file_name(found.get("task")) or "classification"
    file = settings.get("weights") or (settings["model"] if is_model_file(settings.get("model")) else None)
    if file:
        found["weights"] = f"{Path(file).name} ({str(store.get(BASE_WEIGHTS))[:8]})"
    return found | _device(store, chosen.after.measurement)


def figures_of(network: Figures, base: Figures, images: int) -> tuple[dict[str, float], dict[str, Interval]]:
    """Return what one network came to, by metric, and the intervals that single figures have.

    Args:
        base: the base model's, by whose measurement latency, power and energy are freed of drift.
        images: of the test split, whose share of right answers has an interval by their number; 0: it has none.
    """
    measured = network.measurement
    known: dict[str, Interval] = {"latency_ms": corrected(measured, base.measurement)}
    if measured.ratio is not None:
        known["latency_ratio"] = measured.ratio
    if (power := corrected_power(measured, base.measurement)) is not None:
        kind = "_estimated" if power.estimated else ""
        known |= {f"power{kind}_w": power.mean_w, f"energy{kind}_mj": power.energy_total_mj}
    figures = {metric: interval.value for metric, interval in known.items()}
    figures |= {"parameters": network.parameters, "macs": network.macs, "size_bytes": network.size_bytes}
    if base.channels and network.channels is not None:
        figures["channels_gone"] = channel_sparsity(base.channels, network.channels)
    if network.test_accuracy is not None:
        figures["test_accuracy"] = network.test_accuracy
        if images:
            known["test_accuracy"] = share_interval(network.test_accuracy, images)
    return figures, known


def share_interval(share: float, count: int) -> Interval:
    """Return the 95 % interval of a share of ``count`` images (Wilson, JASA 22, 1927): that of these images alone.

    >>> found = share_interval(0.9, 100)
    >>> round(found.low, 4), round(found.high, 4)
    (0.8256, 0.9448)
    """
    z2 = float(ndtri(0.975)) ** 2
    centre = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = math.sqrt(z2 * share * (1 - share) / count + (z2 / (2 * count)) ** 2) / (1 + z2 / count)
    return Interval(share, min(share, centre - half), max(share, centre + half))


def points_of(store: Store) -> tuple[Point, ...]:
    """Return the different networks that a run's search measured validly, each once.

    The intensity is that of the first round's plans: a later round cuts what an earlier one has left.
    """
    space = store.get(SPACE.of(1))
    found: dict[tuple[int, str], Point] = {}
    for trial in store.trials():
        if space is not None and trial.round == 1:
            require_plan(store, space, trial.plan, f"trial {trial.index}")
        if (point := _point(trial, space)) is not None:
            found.setdefault((trial.round, trial.key), point)
    return tuple(found.values())


def _point(trial: Trial, space: SearchSpace | None) -> Point | None:
    measured = trial.measurement
    if trial.failure is not None or trial.candidate is None or measured is None or measured.ratio is None:
        return None
    gone = channels_gone(space, trial.plan.levels) if space is not None and trial.round == 1 else None
    return Point(
        intensity=sum(gone) / len(gone) if gone else None,
        accuracy=trial.candidate.accuracy,
        latency_ratio=measured.ratio.value,
        power_ratio=measured.power_ratio.value if measured.power_ratio else None,
    )


def _of_the_search(store: Store, points: tuple[Point, ...]) -> dict[str, float]:
    best, seconds, classes = store.best(), store.get(SECONDS), store.get(CLASSES)
    found = {"trials": float(len(store.trials()))}
    if best is not None and best.candidate is not None:
        found["search_accuracy"] = best.candidate.accuracy
    known = len(classes or ()) if puts_into_classes(store) else 0
    if known or not puts_into_classes(store):
        found["hypervolume"] = of_networks([(point.latency_ratio, point.accuracy) for point in points], known)
    if seconds is not None:
        found["seconds"] = seconds
    return found


def _precision(store: Store) -> str:
    """Return the precision that a run decided for, whatever its settings left open; older runs knew float32 alone."""
    decision = store.get(PRECISION)
    return "float32" if decision is None else decision.precision


def _device(store: Store, measured: Measurement) -> dict[str, str]:
    named, facts = store.get(DEVICE), store.get(DEVICE_FACTS)
    device: Mapping[str, Any] = {} if named is None else named
    version = facts.runtimes.get(measured.runtime, "") if facts else ""
    values = (
        device.get("name", ""), device.get("kind", ""), (facts.board or facts.cpu) if facts else "",
        f"{measured.runtime} {version}".strip(), device.get("power", ""),
    )  # fmt: skip
    return dict(zip(DEVICE_SETTINGS, map(str, values), strict=True))


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return nested settings by their dotted names, as text; what is absent is empty.

    >>> _flat({"target": ["latency=0.5x", "size=1MB"], "reward": {"beta": 0.05}, "weights": None})
    {'target': 'latency=0.5x size=1MB', 'reward.beta': '0.05', 'weights': ''}
    """
    found: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            found |= _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list | tuple):
            found[f"{prefix}{key}"] = " ".join(map(str, value))
        else:
            found[f"{prefix}{key}"] = "" if value is None or value == {} else str(value)
    return found


def _file_name(model: str | None) -> str:
    """Return a model's name without the folder of its file.

    >>> _file_name("/home/me/net.py:Net"), _file_name("resnet20")
    ('net.py:Net', 'resnet20')
    """
    return (model or "").rpartition("/")[2]
