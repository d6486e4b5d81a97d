"""What a report tells, read out of a run once, so that everything drawn from it is a pure function."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from pipeline import serialization
from pipeline.errors import ConfigError
from pipeline.measurement.between_processes import Spread
from pipeline.measurement.calibration import Calibration
from pipeline.measurement.drift import Drift, drift_of
from pipeline.records import Artifact, Figures, SearchSpace, Trial
from pipeline.store.device_usage import Usage
from pipeline.targets import parse_target

T = TypeVar("T")


class ReadableRun(Protocol):
    """A run as the report reads it; ``pipeline.store.Store`` is one."""

    @property
    def id(self) -> str:
        """Its name."""

    @property
    def status(self) -> str:
        """How it stands."""

    def get(self, key: str, default: Any = None) -> Any:
        """Return a fact as JSON values."""

    def trials(self) -> list[Trial]:
        """Return every trial."""

    def pareto(self) -> list[Trial]:
        """Return the trials that no other beats."""

    def artifacts(self) -> list[Artifact]:
        """Return the networks that are ready to deploy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """One run; what it has not reached yet is None or empty."""

    id: str
    status: str
    config: Mapping[str, Any]
    device: Mapping[str, Any]
    facts: Mapping[str, Any]
    versions: Mapping[str, Any]
    seed: int | None
    started: str | None
    seconds: float | None
    base: Figures | None
    space: SearchSpace | None
    trials: tuple[Trial, ...]
    front: frozenset[int]
    """Indices of the trials that no other beats."""
    chosen: Artifact | None
    calibration: Calibration | None = None
    """Of the device, as the run began; None: nobody had calibrated it as it was."""
    spreads: Mapping[str, Spread] = field(default_factory=dict)
    """How ratios differ from process to process on the device, by what was measured."""
    usage: tuple[str, ...] = ()
    """How the device's time was spent, in words, a round each."""

    @property
    def drift(self) -> Drift | None:
        """How the board's speed drifted over the trials."""
        return drift_of(self.trials)

    @property
    def measured(self) -> tuple[Trial, ...]:
        """The trials that came to a figure for accuracy and one for latency."""
        return tuple(t for t in self.trials if t.candidate and t.measurement and t.failure is None)

    @property
    def failed(self) -> tuple[Trial, ...]:
        """The trials that came to none."""
        return tuple(t for t in self.trials if t.failure is not None)

    @property
    def latency_target(self) -> float | None:
        """The longest median latency that the target allows, as a share of the base model's; None: no such target."""
        if self.base is None:
            return None
        for text in self.config.get("target") or ():
            try:
                target = parse_target(str(text))
            except ConfigError:
                continue
            if target.metric == "latency":
                return target.share(self.base.measurement.p50_ms.value)
        return None


def gather(run: ReadableRun) -> Contents:
    """Read a run, at whatever stage it is."""
    seconds = run.get("seconds")
    return Contents(
        id=run.id,
        status=run.status,
        config=run.get("config", {}),
        device=run.get("device", {}),
        facts=run.get("facts", {}),
        versions=run.get("versions", {}),
        seed=run.get("seed"),
        started=run.get("started"),
        seconds=seconds if isinstance(seconds, int | float) else None,
        base=_record(Figures, run.get("base")),
        calibration=_record(Calibration, run.get("calibration")),
        spreads={metric: serialization.load(Spread, told) for metric, told in (run.get("spreads") or {}).items()},
        space=_record(SearchSpace, run.get("space")),
        trials=tuple(run.trials()),
        front=frozenset(trial.index for trial in run.pareto()),
        usage=tuple(str(serialization.load(Usage, told)) for told in _usages(run)),
        chosen=next((artifact for artifact in run.artifacts() if artifact.chosen), None),
    )


def _usages(run: ReadableRun) -> list[Any]:
    rounds = range(1, int(run.get("config", {}).get("rounds") or 1) + 1)
    return [told for number in rounds if (told := run.get(f"usage {number}")) is not None]


def _record(kind: type[T], plain: object) -> T | None:
    return None if plain is None else serialization.load(kind, plain)
