"""Report contents: everything a report shows, read from a run once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.errors import ConfigError
from pipeline.measurement.between_processes import Spread
from pipeline.measurement.calibration import Calibration
from pipeline.measurement.drift import Drift, drift_of
from pipeline.records import Artifact, Baseline, Figures, Fleet, PrecisionDecision, SearchSpace, Trial
from pipeline.records.learning import Burst
from pipeline.store import Store
from pipeline.store.conditions import base_of, chosen_artifacts
from pipeline.store.device_usage import Usage
from pipeline.store.facts import (
    BASE,
    CALIBRATION,
    CONFIG,
    DECISIONS,
    DEVICE,
    DEVICE_FACTS,
    FLEET,
    LEARNT,
    PRECISION,
    RIVALS,
    SECONDS,
    SEED,
    SPACE,
    SPREADS,
    STARTED,
    USAGE,
    VERSIONS,
)  # fmt: skip
from pipeline.store.task import ACCURACY, metric_name, puts_into_classes
from pipeline.targets import parse_target

if TYPE_CHECKING:
    from pipeline.store.pruning_frequency import PruningFrequency


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
    """Of several conditions of the data the first one's."""
    plans: tuple[Artifact, ...] = ()
    """What was chosen, of several conditions one for each."""
    bases: Mapping[str, Figures] = field(default_factory=dict)
    """The base model under each condition; ``base`` has the mean accuracy over them."""
    calibration: Calibration | None = None
    """Of the device, as the run began; None: nobody had calibrated it as it was."""
    precision: PrecisionDecision | None = None
    """In which networks compute on the device; None: not decided yet, or by a version that knew float32 alone."""
    decisions: Mapping[str, str] = field(default_factory=dict)
    """What was decided for the whole network, in a sentence each, by what it is called."""
    spreads: Mapping[str, Spread] = field(default_factory=dict)
    """How ratios differ from process to process on the device, by what was measured."""
    fleet: Fleet | None = None
    """The boards, where several measured."""
    metric: str = ACCURACY
    """What the task calls the score that every accuracy is."""
    puts_into_classes: bool = True
    """Whether it is the share of right answers."""
    rivals: tuple[Baseline, ...] = ()
    """Networks that the user might have taken instead."""
    learnt: tuple[Burst, ...] = ()
    """How the last round's strategy learnt; empty: it keeps nothing."""
    frequency: PruningFrequency | None = None
    """How often each layer was pruned at each level; None: no plan cut several of them."""
    usage: tuple[str, ...] = ()
    """How the device's time was spent, in words, a round each."""

    @property
    def base_of_chosen(self) -> Figures | None:
        """The base model under the condition that the chosen network is for."""
        return self.base if self.chosen is None or not self.chosen.condition else self.bases[self.chosen.condition]

    @property
    def drift(self) -> Drift | None:
        """How the board's speed drifted over the trials."""
        return drift_of(self.trials)

    @property
    def measured(self) -> tuple[Trial, ...]:
        """The trials that came to a score and a latency."""
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


def gather(run: Store) -> Contents:
    """Read a run, at whatever stage it is."""
    from pipeline.store.pruning_frequency import pruning_frequency  # scipy takes its time to import

    config, device, facts, versions = run.get(CONFIG), run.get(DEVICE), run.get(DEVICE_FACTS), run.get(VERSIONS)
    spreads, rivals, plans = run.get(SPREADS), run.get(RIVALS), chosen_artifacts(run)
    learnt = run.get(LEARNT.of(1 if config is None else config.get("rounds", 1)))
    return Contents(
        id=run.id,
        status=run.status,
        config=config or {},
        device=device or {},
        facts={} if facts is None else DEVICE_FACTS.plain(facts),
        versions=versions or {},
        seed=run.get(SEED),
        started=run.get(STARTED),
        seconds=run.get(SECONDS),
        base=run.get(BASE),
        calibration=run.get(CALIBRATION),
        precision=run.get(PRECISION),
        decisions={fact.key: found.why for fact in DECISIONS if (found := run.get(fact)) is not None},
        spreads=spreads or {},
        fleet=run.get(FLEET),
        metric=metric_name(run),
        puts_into_classes=puts_into_classes(run),
        rivals=() if rivals is None else tuple(rivals),
        space=run.get(SPACE),
        trials=tuple(run.trials()),
        front=frozenset(trial.index for trial in run.pareto()),
        learnt=() if learnt is None else tuple(learnt),
        frequency=pruning_frequency([run]),
        usage=tuple(str(usage) for usage in usages(run).values()),
        chosen=next(iter(plans), None),
        plans=tuple(plans),
        bases={one.condition: base_of(run, one) for one in plans if one.condition},
    )


def usages(run: Store) -> dict[int, Usage]:
    """Return how the device's time was spent in each round's search, as far as the run has come."""
    config = run.get(CONFIG)
    rounds = range(1, (1 if config is None else config.get("rounds", 1)) + 1)
    found = {number: run.get(USAGE.of(number)) for number in rounds}
    return {number: usage for number, usage in found.items() if usage is not None}
