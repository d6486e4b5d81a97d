"""Artifact selection and recipes: what a bundle is made of, read from a run's store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.facts import BundleCondition, BundleFacts, BundleTask, NetworkInput
from pipeline import __version__
from pipeline.config import is_model_file
from pipeline.devices.inventory.load import load_inventory
from pipeline.errors import RunNotFoundError, UserError
from pipeline.export.format_plugin import model_format, portable_format
from pipeline.objective.task import CLASSIFICATION
from pipeline.pareto import device_costs, non_dominated
from pipeline.plugins import is_file
from pipeline.recipes.recipe import RECIPE, Cut, Recipe, cut_of, read_recipe
from pipeline.records import FULL, UNTRIED, Artifact, ModelFormat
from pipeline.store import Store
from pipeline.store.conditions import base_of, chosen_artifacts, conditions_of, winner_of
from pipeline.store.facts import (
    BASE,
    BASE_WEIGHTS,
    CALIBRATION,
    CLASSES,
    CONFIG,
    DEVICE,
    DEVICE_FACTS,
    FORMAT,
    GIT,
    INPUT,
    PLANNED_FOR,
    SEED,
    TASK,
    VERSIONS,
)
from pipeline.store.spaces import space_of_round

if TYPE_CHECKING:  # torch takes seconds to import, and a bundle does without
    from pipeline.config import RunConfig
    from pipeline.evaluation.candidate_builder import Builder


def picked(store: Store, wanted: str, condition: str = "") -> list[Artifact]:
    """Return the artifacts that ``wanted`` names: ``best``, ``pareto`` (no other is better in everything) or an id.

    Args:
        store: the run's.
        wanted: as above; of several conditions of the data ``best`` is one for each.
        condition: only what was made for it; empty: for all.

    Raises:
        RunNotFoundError: there is none.
    """
    artifacts = [a for a in store.artifacts() if condition in ("", a.condition)]
    if condition and condition not in (names := conditions_of(store)):
        raise RunNotFoundError(
            f"run {store.id} has no condition {condition!r}; it has: {', '.join(names) or 'none'}, so leave the option "
            "out or name one of these"
        )
    if wanted == "best":
        found = [a for a in chosen_artifacts(store) if condition in ("", a.condition)]
    elif wanted == "pareto":
        found = _front(artifacts)
    else:
        found = [a for a in artifacts if a.id == wanted]
    if not found:
        ids = ", ".join(a.id for a in artifacts)
        there = f"it has: {ids}" if ids else "it has none yet"
        fix = "" if store.status == "finished" else f"; to resume it: pipeline run --resume {store.id}"
        raise RunNotFoundError(f"run {store.id} ({store.status}) has no artifact {wanted!r}; {there}{fix}")
    return found


def format_of(store: Store, artifact: Artifact, inventory: Path | None = None) -> ModelFormat:
    """Return the format of an artifact's model file.

    A run names a format's file by its name alone; the file is the one that the inventory has for the run's device: no
    code is imported because a stored run says so.

    Raises:
        UserError: the format is not there.
    """
    name = store.get(FORMAT)
    if name is None:  # an older version's, whose formats are called as their files end
        name = next((file.removeprefix("model.") for file in artifact.files if file.startswith("model.")), "onnx")
    if not is_file(name):
        return model_format(name)
    named = store.required(DEVICE)
    device = load_inventory(inventory, partial=True).device((named.get("boards") or [named["name"]])[0])
    if portable_format(device.format) != name:
        raise UserError(
            f"run {store.id} wrote files in the format of {name}, and {device.name} has {device.format} in the "
            f"inventory; put `format: {name}` back there, or give --inventory FILE"
        )
    return model_format(device.format)


def bundle_facts(store: Store, artifact: Artifact, format: ModelFormat) -> BundleFacts:
    """Return what a bundle says of where its network came from; the space is the one that its round cut."""
    network_input, classes, versions = store.required(INPUT), store.required(CLASSES), store.required(VERSIONS)
    config = store.required(CONFIG)
    fitting = network_input.get("fitting") or {}
    return BundleFacts(
        run_id=store.id,
        format=format,
        classes=tuple(classes),
        input=NetworkInput(
            name=network_input["name"],
            shape=tuple(network_input["shape"]),
            mean=tuple(network_input["mean"]),
            std=tuple(network_input["std"]),
            resize=fitting.get("resize"),
            interpolation=fitting.get("interpolation", "bilinear"),
        ),
        space=space_of_round(store, artifact.round),
        device=store.required(DEVICE_FACTS),
        device_name=store.required(DEVICE)["name"],
        base=base_of(store, artifact),
        condition=_condition(store, artifact),
        seed=store.required(SEED),
        versions=versions,
        config=dict(config),
        git=store.get(GIT),
        calibration=store.get(CALIBRATION),
        task=_bundle_task(store),
    )


def _condition(store: Store, artifact: Artifact) -> BundleCondition | None:
    """Return the condition of the data that an artifact is for."""
    planned = store.get(PLANNED_FOR.of(artifact.round))
    known = [] if planned is None else planned.get("conditions", [])
    found = next((one for one in known if one["name"] == artifact.condition), None)
    if found is None:
        return None
    mean, variance = found["input_mean"], found["input_variance"]
    assert isinstance(mean, tuple)  # by channel, where there are conditions
    assert isinstance(variance, tuple)
    return BundleCondition(
        name=artifact.condition, input_mean=mean, input_variance=variance, accuracy_under=artifact.accuracy_under
    )


def _bundle_task(store: Store) -> BundleTask | None:
    task = store.get(TASK)
    if task is None or task["puts_into_classes"]:
        return None
    return BundleTask(
        name=task["name"], metric=task["metric"],
        inputs=tuple((one["name"], tuple(one["shape"])) for one in task["inputs"]),
        outputs=tuple((one["name"], tuple(one["shape"])) for one in task["outputs"]),
    )  # fmt: skip


def recipe_of(
    store: Store,
    builder: Builder,
    artifact: Artifact,
    model: str,
    config: RunConfig,
    decisions: Mapping[str, Mapping[str, Any]] | None = None,
) -> Recipe | None:
    """Return all cuts between the run's base model and an artifact that is being made.

    Args:
        builder: of the artifact's round.
        model: as the user named it.
        config: the run's settings.
        decisions: what holds for the whole network, see ``Recipe.decisions``.

    None: an earlier round was finished by a version that wrote no recipes.
    """
    earlier = _earlier_cuts(store, artifact.round, artifact.condition)
    if earlier is None:
        return None
    options = {"images": config.evaluation.ranking_images, **config.criterion_options.model_dump()}
    plan, of_input = artifact.plan, store.required(INPUT)
    classes, versions, task = store.required(CLASSES), store.required(VERSIONS), store.get(TASK)
    cut = cut_of(builder.space, plan.levels, builder.ranking, config.criterion, options)
    return Recipe(
        model=portable(model),
        classes=len(classes),
        input_shape=tuple(of_input["shape"]),
        parameters=store.required(BASE).parameters,
        weights_sha256=store.required(BASE_WEIGHTS),
        cuts=(*earlier, replace(cut, zeros=builder.space.zeros(plan))),
        seed=store.required(SEED),
        mean=tuple(of_input["mean"]),
        std=tuple(of_input["std"]),
        fitting=of_input.get("fitting"),
        task=CLASSIFICATION if task is None else task["name"],
        more_shapes=() if task is None else tuple(tuple(one["shape"]) for one in task["inputs"][1:]),
        versions={"pipeline": __version__, **versions},
        source=f"run {store.id}, artifact {artifact.id}",
        decisions=decisions or {},
    )


def portable(model: str) -> str:
    """Return a model's name as it is understood elsewhere: without the folders that its file lies in here.

    >>> portable("/home/me/nets/net.py:make"), portable("nets/net.onnx"), portable("resnet20")
    ('net.py:make', 'net.onnx', 'resnet20')
    """
    if is_model_file(model):
        return Path(model).name
    file, colon, factory = model.rpartition(":")
    return f"{Path(file).name}:{factory}" if colon and file.endswith(".py") else model


def _earlier_cuts(store: Store, number: int, condition: str) -> tuple[Cut, ...] | None:
    if number == 1:
        return ()
    before = next(a for a in store.artifacts() if a.id == store.get(winner_of(number - 1, condition)))
    return read_recipe(store.blob(before.files[RECIPE])).cuts if RECIPE in before.files else None


def _front(all_artifacts: list[Artifact]) -> list[Artifact]:
    """Return the artifacts that no other beats in everything; one fine-tuned in full replaces its brief one.

    Accuracies under different conditions of the data are not compared.
    """
    in_full = {(a.trial, a.condition) for a in all_artifacts if a.id.endswith(FULL)}
    front = []
    for condition in dict.fromkeys(a.condition for a in all_artifacts):
        own = [a for a in all_artifacts if a.condition == condition]
        artifacts = [
            a for a in own
            if a.id.endswith(FULL) or ((a.trial, a.condition) not in in_full and a.trial != UNTRIED)
        ]  # fmt: skip
        costs = device_costs([a.after.search_accuracy for a in artifacts], [a.after.measurement for a in artifacts])
        front += [artifacts[i] for i in non_dominated(costs)]
    return front
