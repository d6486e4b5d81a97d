from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from pipeline.config import RunConfig
from pipeline.errors import RunNotFoundError, UserError
from pipeline.export.format_plugin import model_format
from pipeline.recipes.recipe import RECIPE, Recipe, to_text
from pipeline.records import Interval, PruningPlan, SearchSpace
from pipeline.run.artifact_recipe import bundle_facts, format_of, picked, recipe_of
from pipeline.store import Store
from pipeline.store.facts import (
    BASE,
    BASE_WEIGHTS,
    CALIBRATION,
    CLASSES,
    CONFIG,
    DEVICE,
    DEVICE_FACTS,
    FORMAT,
    INPUT,
    SEED,
    VERSIONS,
    WINNER,
)
from pipeline.store.spaces import remember_space
from tests.examples import artifact, calibration, device_facts, figures, measurement, pruned_figures, space


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.create(tmp_path, label="digits-local") as made:
        yield made


def with_ratio(ratio: float, accuracy: float) -> dict[str, object]:
    measured = measurement(ratio=Interval(ratio, ratio - 0.01, ratio + 0.01))
    return {"after": pruned_figures(search_accuracy=accuracy, measurement=measured)}


def test_best_is_the_chosen_one(store: Store) -> None:
    store.add_artifact(artifact({}, id="r1t0", chosen=False))
    store.add_artifact(artifact({}, id="r1t1", chosen=True))
    assert [a.id for a in picked(store, "best")] == ["r1t1"]
    assert [a.id for a in picked(store, "r1t0")] == ["r1t0"]


def test_pareto_leaves_out_what_another_beats_in_everything(store: Store) -> None:
    for name, ratio, accuracy in (("fast", 0.3, 0.8), ("good", 0.5, 0.9), ("neither", 0.6, 0.7)):
        store.add_artifact(artifact({}, id=name, **with_ratio(ratio, accuracy)))
    assert [a.id for a in picked(store, "pareto")] == ["fast", "good"]


@pytest.mark.parametrize("wanted", ["best", "pareto", "r1t1"])
def test_a_run_without_artifacts_says_how_to_go_on(store: Store, wanted: str) -> None:
    with pytest.raises(RunNotFoundError, match=f"it has none yet; .*--resume {store.id}"):
        picked(store, wanted)


def test_a_finished_run_is_not_told_to_go_on(store: Store) -> None:
    store.add_artifact(artifact({}, id="r1t0"))
    store.finish()
    with pytest.raises(RunNotFoundError, match=r"has no artifact 'x'; it has: r1t0$"):
        picked(store, "x")


def test_facts_hold_the_space_of_the_artifact_s_own_round(store: Store) -> None:
    first, second = space(), replace(space(), step=8)
    remember_space(store, 1, first)
    remember_space(store, 2, second)
    store.set(INPUT, {"name": "image", "shape": [1, 8, 8], "mean": [0.3], "std": [0.2]})
    store.set(CLASSES, ["0", "1"])
    store.set(DEVICE_FACTS, device_facts())
    store.set(DEVICE, {"name": "pi"})
    store.set(BASE, figures())
    store.set(SEED, 3)
    store.set(VERSIONS, {"torch": "2"})
    store.set(CONFIG, {"trials": 3})
    assert bundle_facts(store, artifact({}, round=1), model_format("onnx")).space == first
    facts = bundle_facts(store, artifact({}, round=2), model_format("onnx"))
    assert facts.space == second
    assert (facts.device_name, facts.seed, facts.input.shape, facts.git) == ("pi", 3, (1, 8, 8), None)
    assert facts.calibration is None
    store.set(CALIBRATION, calibration())
    assert bundle_facts(store, artifact({}, round=1), model_format("onnx")).calibration == calibration()


@pytest.mark.parametrize("file", ["model.onnx", "model.tflite"])
def test_the_format_of_an_older_run_is_that_of_its_file(store: Store, file: str) -> None:
    assert format_of(store, artifact({file: "0" * 64})).file == file


def test_a_format_s_own_file_is_the_one_of_the_inventory_never_the_one_that_a_run_names(
    store: Store, tmp_path: Path
) -> None:
    """A stored run may be somebody else's, and so may be the code that it names."""
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')\n")
    store.set(DEVICE, {"name": "pi"})
    store.set(FORMAT, str(tmp_path / "evil.py"))
    inventory = tmp_path / "inventory.yaml"
    inventory.write_text("devices: {pi: {kind: local, format: half.py}}\n")
    with pytest.raises(
        UserError, match=r"wrote files in the format of .*evil.py, and pi has .*half.py in the inventory"
    ):
        format_of(store, artifact({}), inventory)


# ---------------------------------------------------------------- recipes


@dataclass
class RoundsBuilder:
    """Of a builder, what a recipe is made of."""

    space: SearchSpace
    ranking: dict[str, torch.Tensor]


def recipe_in(store: Store, *, round: int) -> Recipe | None:
    builder = RoundsBuilder(space(), {g.name: torch.arange(g.channels).flip(0) for g in space().groups})
    made = artifact({}, id=f"r{round}t1", round=round, plan=PruningPlan(levels=(0, 75), criterion="l2"))
    return recipe_of(store, builder, made, "resnet20", RunConfig(criterion="l2"))  # type: ignore[arg-type]


@pytest.fixture
def described(store: Store) -> Store:
    store.set(CLASSES, ["0", "1"])
    store.set(INPUT, {"name": "image", "shape": [1, 8, 8], "mean": [0.3], "std": [0.2]})
    store.set(BASE, figures())
    store.set(BASE_WEIGHTS, "ab" * 32)
    store.set(SEED, 3)
    store.set(VERSIONS, {"torch": "2"})
    return store


def test_a_recipe_says_which_channels_stayed_and_of_which_weights(described: Store) -> None:
    recipe = recipe_in(described, round=1)
    assert recipe is not None
    (cut,) = recipe.cuts
    assert (cut.criterion, cut.options["images"], cut.levels) == ("l2", 512, (0, 75))
    assert cut.groups[1].kept == (0, 1, 2, 3)  # the last four of a ranking from the last to the first
    assert (recipe.model, recipe.classes, recipe.input_shape, recipe.seed) == ("resnet20", 2, (1, 8, 8), 3)
    assert (recipe.weights_sha256, recipe.parameters) == ("ab" * 32, figures().parameters)
    assert recipe.source == f"run {described.id}, artifact r1t1"


def test_a_later_rounds_recipe_begins_with_the_cuts_of_the_rounds_before(described: Store) -> None:
    first = recipe_in(described, round=1)
    assert first is not None
    described.add_artifact(artifact({RECIPE: described.put_blob(to_text(first).encode())}, id="r1t1-full"))
    described.set(WINNER.of(1), "r1t1-full")
    second = recipe_in(described, round=2)
    assert second is not None
    assert second.cuts == (*first.cuts, *first.cuts)


def test_after_a_round_that_wrote_no_recipe_there_is_none(described: Store) -> None:
    described.add_artifact(artifact({}, id="r1t1-full"))
    described.set(WINNER.of(1), "r1t1-full")
    assert recipe_in(described, round=2) is None
