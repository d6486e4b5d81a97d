"""Plans by condition: what a run of several conditions of the data chose under each, as one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.records import Artifact, Figures, channel_sparsity
from pipeline.report.table import NOT_MEASURED, ratio

NOTE = (
    "base and pruned: accuracy under the plan's own condition; under …: the same pruned network's there. Each was "
    "chosen by its reward under its condition and trained on images under it, of one search"
)


@dataclass(frozen=True, slots=True)
class ConditionPlan:
    """One condition's plan, its figures as text."""

    condition: str
    base: str
    pruned: str
    latency: str
    channels: str
    under: tuple[str, ...]
    """The network's accuracy under each of the conditions."""

    @property
    def cells(self) -> tuple[str, ...]:
        """The row of a table with the columns that ``columns`` names."""
        return (self.condition, self.base, self.pruned, self.latency, self.channels, *self.under)


def columns(chosen: Sequence[Artifact]) -> tuple[str, ...]:
    """Return the table's columns."""
    return ("plan for", "base", "pruned", "latency of base", "channels gone", *(f"under {a.condition}" for a in chosen))


def condition_plans(chosen: Sequence[Artifact], bases: Mapping[str, Figures]) -> list[ConditionPlan]:
    """Return the plan of each condition; nothing where there are not several.

    Args:
        chosen: a network for each condition.
        bases: the base model's figures under each.
    """
    if len(chosen) < 2:
        return []
    return [_plan(one, bases[one.condition], [other.condition for other in chosen]) for one in chosen]


def _plan(artifact: Artifact, base: Figures, names: Sequence[str]) -> ConditionPlan:
    measured, after = artifact.after.measurement.ratio, artifact.after
    gone = (
        NOT_MEASURED if base.channels is None or after.channels is None
        else f"{channel_sparsity(base.channels, after.channels):.1%}"
    )  # fmt: skip
    return ConditionPlan(
        condition=artifact.condition,
        base=_share(base),
        pruned=_share(after),
        latency=NOT_MEASURED if measured is None else ratio(measured),
        channels=gone,
        under=tuple(
            f"{artifact.accuracy_under[name]:.1%}" if name in artifact.accuracy_under else NOT_MEASURED
            for name in names
        ),
    )


def _share(figures: Figures) -> str:
    found = figures.search_accuracy if figures.test_accuracy is None else figures.test_accuracy
    return f"{found:.1%}"
