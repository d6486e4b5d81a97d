"""Strategy interface: ask for a plan, tell what came of it.

A strategy is one file with ``create(problem) -> Strategy``. It may declare, each of them optional:

    class Settings(BaseModel)     its own settings, a sentence under each field: ``strategy_options`` in run.yaml
    MODES = ("imagined", ...)     the values of ``mode`` that it has; absent: the default alone
    SETS_ZEROS = True             with a target of density it sets single weights to zero; absent: it cuts channels
    note(config) -> str | None    what a user of it has to know, said before the search

What it creates may have two methods beside ``ask`` and ``tell``, which are called when the search is through:

    policy() -> bytes             what it has learnt, kept with the run
    learnt() -> Sequence[Burst]   how it learnt, for the report

Or one, by which it goes on with what it came to in the next round, in ``problem.carried``:

    carried() -> Mapping[str, float]   a figure for each group, by its name

Where a run has several conditions of the data, a trial's accuracy is the mean over them, and a strategy that knows no
conditions plans for that. One that does finds them in ``problem.conditions``, each trial's accuracies and rewards under
each, and says by its attribute ``condition`` for which of them it asked last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, TypeVar, runtime_checkable

from pydantic import BaseModel, ConfigDict

from pipeline.predictors.cost_model import CostModel
from pipeline.pruning.importance.filter_norms import Norms
from pipeline.pruning.surgery.weight_sparsity import Spread
from pipeline.records import PruningPlan, SearchSpace, Trial
from pipeline.records.learning import Burst
from pipeline.search.reward import Weights
from pipeline.targets import Metric


@dataclass(frozen=True, slots=True, kw_only=True)
class InputCondition:
    """A condition of the data, such as fog, and what is known of it before the first trial."""

    name: str
    base_accuracy: float
    input_mean: tuple[float, ...]
    input_variance: tuple[float, ...]
    """Of the normalised input images under it, by channel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Everything that a strategy may know before the first trial."""

    space: SearchSpace
    costs: CostModel
    limits: Mapping[Metric, float]
    """What plans are made for: each target as a share of the base model's figure, tightened by ``margin``."""
    weights: Weights
    base_accuracy: float
    """The mean over ``conditions``, where there are any; so is each candidate's."""
    images: int
    """Images behind one accuracy."""
    input_mean: tuple[float, ...]
    input_variance: tuple[float, ...]
    """Of the normalised input images: AKPERL's input statistics. By channel where the run has conditions; else one
    figure over all values, which is constant within a run."""
    temperature_c: float | None
    """Of the device before the search: its operating condition."""
    criterion: str
    trials: int
    seed: int
    mode: Literal["imagined", "direct"] = "imagined"
    margin: float = 0.0
    """By how much of a target ``limits`` are tighter than it."""
    norms: Norms = ()
    """Of each group's filters; empty: not known."""
    spreads: tuple[Spread, ...] = ()
    """With a target of density: how each tensor's weights lie, in the order of a plan's zeros; no channel is cut."""
    policy: bytes | None = None
    """The network of a run of before that the DQN begins with, a safetensors file; None: it begins anew."""
    settings: BaseModel | None = None
    """The strategy's own, of the class that its file calls ``Settings``; None: it has none, or the defaults count."""
    conditions: tuple[InputCondition, ...] = ()
    """Of the data, each to have a plan of its own; empty: the data is what it is."""
    carried: Mapping[str, float] = field(default_factory=dict)
    """Group → what the strategy of the round before handed on; empty: nothing, or it is the first round."""

    def under(self, condition: InputCondition) -> Problem:
        """Return the problem as it is under one condition."""
        return replace(
            self, base_accuracy=condition.base_accuracy, input_mean=condition.input_mean,
            input_variance=condition.input_variance, conditions=(),
        )  # fmt: skip

    def of_each_condition(self) -> list[Problem]:
        """Return the problem under each condition; without conditions itself."""
        return [self.under(condition) for condition in self.conditions] or [self]


class StrategySettings(BaseModel):
    """Settings of a strategy that ships."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


S = TypeVar("S", bound=BaseModel)


def settings_of(problem: Problem, kind: type[S]) -> S:
    """Return the problem's settings where they are of this kind, else its defaults.

    A problem that several strategies are given, to compare them, has the settings of one of them.
    """
    return problem.settings if isinstance(problem.settings, kind) else kind()


@runtime_checkable
class Learning(Protocol):
    """What a strategy that keeps what it learns has beside ``ask`` and ``tell``."""

    def policy(self) -> bytes:
        """Return what it has learnt."""
        ...

    def learnt(self) -> Sequence[Burst]:
        """Return how it learnt."""
        ...


@runtime_checkable
class Carrying(Protocol):
    """What a strategy that goes on in the next round with what it came to has beside ``ask`` and ``tell``."""

    def carried(self) -> Mapping[str, float]:
        """Return a figure for each group, by its name, which the next round's problem has as ``carried``."""
        ...


@runtime_checkable
class Conditioned(Protocol):
    """What a strategy that plans for one condition of the data at a time has beside ``ask`` and ``tell``."""

    @property
    def condition(self) -> str:
        """Name of the condition for which the last plan was asked; empty: for all alike."""


class Strategy(Protocol):
    """Picks plans; a strategy file has ``create(problem) -> Strategy``."""

    def ask(self) -> PruningPlan:
        """Return the plan to try next."""
        ...

    def tell(self, trial: Trial) -> None:
        """Take in what came of a plan that ``ask`` returned."""
        ...
