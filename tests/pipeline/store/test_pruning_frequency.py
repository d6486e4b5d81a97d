"""How often layers were pruned: counted from stored trials, beside what single cuts show."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.records import Interval, PruningPlan, SearchSpace
from pipeline.store import Store
from pipeline.store.facts import BASE, SPACE
from pipeline.store.pruning_frequency import pruning_frequency
from tests.examples import candidate, figures, measurement, space, trial


def wide() -> SearchSpace:
    """Five groups of one kind that cost a little different each."""
    first = space().groups[0]
    groups = tuple(replace(first, name=f"conv{number}", macs=first.macs + number) for number in range(5))
    return replace(space(), groups=groups)


def stored(folder: Path, plans: list[tuple[int, ...]], *, of: SearchSpace | None = None) -> Store:
    known = of or wide()
    store = Store.create(folder, label="frequency")
    store.set(SPACE.of(1), known)
    store.set(BASE, figures(search_accuracy=0.9))
    for i in range(len(known.groups)):  # each alone: the later, the more it saves and the less it loses
        levels = tuple(75 if j == i else 0 for j in range(len(known.groups)))
        ratio = 0.95 - 0.1 * i
        store.remember(f"1:{known.key(levels)}", measurement(ratio=Interval(ratio, ratio, ratio)))
        found = candidate(0.5 + 0.08 * i)
        store.append(trial(i, plan=PruningPlan(levels=levels), key=known.key(levels), candidate=found))
    for index, levels in enumerate(plans, start=len(known.groups)):
        store.append(trial(index, plan=PruningPlan(levels=levels), key=known.key(levels)))
    return store


def test_levels_are_counted_over_runs_and_go_with_what_layers_save_and_lose(tmp_path: Path) -> None:
    with (
        stored(tmp_path / "one", [(0, 0, 25, 50, 75), (0, 25, 25, 50, 75)]) as one,
        stored(tmp_path / "two", [(0, 25, 50, 50, 75)]) as two,
        stored(tmp_path / "other", [(25, 50)], of=space()) as other,
    ):
        found = pruning_frequency([one, two, other])
        assert found is not None
        last = found.layers[-1]
        assert last.plans[75] == 3  # single cuts are not counted: every search begins with them
        assert last.mean_level == 75
        assert found.layers[1].plans[25] == 2
        assert found.layers[1].plans[0] == 1
        assert last.saving == pytest.approx(0.45)
        assert last.loss == pytest.approx(0.9 - 0.82)
        assert found.with_saving is not None
        assert found.with_loss is not None
        assert found.with_saving.rho == pytest.approx(1.0)
        assert found.with_loss.rho == pytest.approx(-1.0)


def test_without_a_plan_of_several_layers_there_is_nothing_to_count(tmp_path: Path) -> None:
    with stored(tmp_path, []) as store:
        assert pruning_frequency([store]) is None
    assert pruning_frequency([]) is None


def test_a_few_layers_are_counted_and_not_correlated(tmp_path: Path) -> None:
    with stored(tmp_path, [(50, 75)], of=space()) as store:
        found = pruning_frequency([store])
        assert found is not None
        assert (found.with_saving, found.with_loss) == (None, None)
