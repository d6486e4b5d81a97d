"""What a trained network becomes: files in the store, verified, measured, with the recipe of its cut."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from safetensors.torch import load_file

from pipeline.devices.agent_client import Agent
from pipeline.errors import ExportError
from pipeline.models.safetensors_io import WEIGHTS
from pipeline.recipes.recipe import RECIPE, read_recipe
from pipeline.records import FULL, Artifact, Figures
from pipeline.run.artifact_builder import ArtifactBuilder
from pipeline.store import Store
from tests.pipeline.listening import Listener
from tests.pipeline.run.toy_run import NullFiles, Toy, took, toy_context


@pytest.fixture
def heard() -> Listener:
    return Listener()


@pytest.fixture
def toy(new_store: Store, null_agent: Agent, heard: Listener) -> Toy:
    made = Toy(context=toy_context(new_store, null_agent, heard))
    assert made.base.figures
    heard.notes.clear()
    heard.stages.clear()
    return made


def unbuilt(toy: Toy, name: str = "r1t0") -> Artifact:
    trial = toy.trial(0, (50, 75), took(0.4))
    assert trial.candidate is not None
    figures = Figures(
        search_accuracy=trial.candidate.accuracy, test_accuracy=None, parameters=trial.candidate.parameters,
        macs=trial.candidate.macs, size_bytes=trial.candidate.size_bytes, measurement=took(0.4),
    )  # fmt: skip
    return Artifact(
        id=name, trial=0, plan=trial.plan, key=trial.key, files={}, before=figures, after=figures, device_accuracy=None,
        host_accuracy=None, round=1,
    )  # fmt: skip


def artifacts(toy: Toy) -> ArtifactBuilder:
    return toy.finals.artifacts


def test_its_files_are_the_model_its_weights_and_the_recipe_of_its_cut(toy: Toy) -> None:
    toy.know_whole("r1t0", took(0.4))
    wanted = unbuilt(toy)
    network = toy.builder.network(wanted.plan)
    built = artifacts(toy).build(wanted, network)
    store = toy.context.store
    assert built.files.keys() == {"model.onnx", WEIGHTS, RECIPE}
    assert store.blob(built.files["model.onnx"]).read_bytes() == toy.context.format.file(network)
    assert load_file(store.blob(built.files[WEIGHTS])).keys() == network.state_dict().keys()
    (cut,) = read_recipe(store.blob(built.files[RECIPE])).cuts
    assert [len(group.kept) for group in cut.groups] == [4, 2]
    assert store.artifacts() == [built]


def test_its_figures_are_those_of_the_network_and_of_the_whole_file(toy: Toy) -> None:
    toy.know_whole("r1t0", took(0.43))
    wanted = unbuilt(toy)
    network = toy.builder.network(wanted.plan)
    after = artifacts(toy).build(wanted, network).after
    assert after.search_accuracy == toy.builder.accuracy(network)
    assert (after.parameters, after.size_bytes) == (wanted.before.parameters, 4 * wanted.before.parameters)
    assert after.measurement.ratio is not None
    assert after.measurement.ratio.value == pytest.approx(0.43)
    assert artifacts(toy).build(replace(wanted, id="r1t1"), network, 0.5).after.search_accuracy == 0.5


def test_device_and_host_answer_real_images_before_anything_is_stored(toy: Toy) -> None:
    toy.know_whole("r1t0", took(0.4))
    wanted = unbuilt(toy)
    built = artifacts(toy).build(wanted, toy.builder.network(wanted.plan))
    assert (built.device_accuracy, built.host_accuracy, built.verified_images) == (0.5, 0.5, 2)

    lying = replace(toy.context, format=NullFiles(toy.context.example, host_answers=2))
    other = replace(toy.finals, context=lying).artifacts
    lied = replace(wanted, id="r1t1", plan=replace(wanted.plan, levels=(50, 50)))
    with pytest.raises(ExportError, match=r"the device answers 50.0% of 2 images right, the host 0.0%"):
        other.build(lied, toy.builder.network(lied.plan))
    assert toy.context.store.artifacts() == [built]


def test_the_checkpoint_of_its_training_goes_once_the_artifact_is_stored(toy: Toy) -> None:
    toy.know_whole("r1t0", took(0.4))
    slot = toy.context.store.checkpoint("r1t0")
    slot.write(b"half way")
    wanted = unbuilt(toy)
    artifacts(toy).build(wanted, toy.builder.network(wanted.plan))
    assert slot.read() is None


@pytest.mark.parametrize(("first", "looks"), [(0.40, 1), (0.49, 2), (0.51, 2), (0.60, 1)])
def test_a_file_too_near_the_target_to_tell_is_measured_once_more_on_either_side_of_it(
    toy: Toy, heard: Listener, first: float, looks: int
) -> None:
    toy.know_whole("r1t0", took(first, 0.02))
    toy.know_whole("r1t0", took(0.55, 0.02), process=2)
    found = artifacts(toy).measure(b"", "r1t0")
    assert found.ratio is not None
    both = first if looks == 1 else (first * 0.55) ** 0.5
    assert found.ratio.value == pytest.approx(both, rel=0.01)
    once_more = "Measure r1t0 once more: too near the target to tell"
    assert heard.stages == ["Measure the whole file of r1t0", *[once_more] * (looks - 1)]


def test_of_the_one_that_is_chosen_already_no_second_look_is_taken(toy: Toy, heard: Listener) -> None:
    toy.know_whole(f"r1t0{FULL}", took(0.5, 0.02))
    artifacts(toy).measure(b"", f"r1t0{FULL}")
    assert heard.stages == ["Measure the whole file of r1t0-full"]


def test_a_whole_file_is_measured_on_the_device_beside_the_base_model(toy: Toy) -> None:
    wanted = unbuilt(toy)
    model = toy.context.format.file(toy.builder.network(wanted.plan))
    assert "outputs" in json.loads(model)
    found = artifacts(toy).measure(model, f"r1t0{FULL}")
    assert found.runtime.startswith("null")
    assert found.ratio is not None
    assert toy.context.store.recall("1:whole:r1t0-full process 1") is not None
