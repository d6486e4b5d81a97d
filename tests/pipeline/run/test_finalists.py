"""One finalist's way: held against the targets once more, trained rung by rung, made an artifact."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from pipeline.devices.agent_client import Agent
from pipeline.errors import StoppedError
from pipeline.models.safetensors_io import WEIGHTS
from pipeline.pruning.reconstruction.batch_norm import accuracy
from pipeline.records import FULL, Artifact, Trial
from pipeline.run.successive_halving import Rung, rungs_of
from pipeline.store import Store
from pipeline.store.facts import RUNG, TRAINED_IN_FULL, TUNING
from tests.pipeline.listening import Listener
from tests.pipeline.run.toy_run import Toy, took, toy_context, widths

HALVED = (50, 50)


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


def rungs(toy: Toy, count: int = 1) -> tuple[Rung, ...]:
    told = toy.context.config.fine_tuning.model_copy(update={"finalists": 2 * count, "reduction_factor": 2})
    return rungs_of(told, 2 * count, seed=0)


def climbed(toy: Toy, trial: Trial) -> Artifact:
    """A finalist after its one rung, its whole file known to meet the target."""
    toy.know_whole(toy.finals.name(trial), took(0.4))
    toy.finals.train_rung(trial, rungs(toy), 0)
    return toy.finals.fine_tune_short(trial)


# ---------------------------------------------------------------- before the training


def test_one_that_surely_meets_the_target_is_not_measured_again(toy: Toy, heard: Listener) -> None:
    trial = toy.trial(0, HALVED, took(0.4, 0.02))
    assert toy.finals.confirm(trial) is trial
    assert heard.stages == []


def test_of_one_near_the_target_the_longer_measurement_counts_alone(toy: Toy, heard: Listener) -> None:
    near = toy.trial(0, HALVED, took(0.49, 0.03))
    toy.know_again(toy.skeleton(near), took(0.46))
    confirmed = toy.finals.confirm(near)
    assert confirmed is not None
    assert confirmed.measurement is not None
    assert confirmed.measurement.ratio is not None
    assert confirmed.measurement.ratio.value == pytest.approx(0.46)
    assert heard.stages == ["Measure candidate 0 longer: too near the target to tell"]


def test_one_that_misses_it_when_measured_longer_is_left_out_by_name(toy: Toy, heard: Listener) -> None:
    near = toy.trial(3, HALVED, took(0.49, 0.03))
    toy.know_again(toy.skeleton(near), took(0.53))
    assert toy.finals.confirm(near) is None
    (told,) = heard.notes
    assert told.startswith("candidate 3 misses the target, measured longer (0.530× ± 0.000 of the base model's latency")
    assert told.endswith("left out")


def test_where_the_longer_measurement_is_invalid_the_first_one_stands(toy: Toy) -> None:
    near = toy.trial(0, HALVED, took(0.49, 0.03))
    toy.know_again(toy.skeleton(near), took(0.8, flags=("throttled",)))
    assert toy.finals.confirm(near) == near


# ---------------------------------------------------------------- rungs


def test_a_rung_stores_weights_and_score_and_leaves_no_checkpoint(toy: Toy) -> None:
    trial = toy.trial(0, HALVED, took(0.4))
    scored = toy.finals.train_rung(trial, rungs(toy), 0)
    stored = toy.context.store.required(RUNG.of("r1t0"))
    assert stored["validation_accuracy"] == scored
    assert load_file(toy.context.store.blob(stored["weights"]))["conv1.weight"].shape[0] == 4
    assert toy.context.store.checkpoint("r1t0").read() is None


def test_a_finished_rung_is_not_trained_again(toy: Toy, heard: Listener) -> None:
    trial = toy.trial(0, HALVED, took(0.4))
    scored = toy.finals.train_rung(trial, rungs(toy), 0)
    before = list(heard.stages)
    assert toy.finals.train_rung(trial, rungs(toy), 0) == scored
    assert heard.stages == before


def test_a_later_rung_begins_with_what_the_one_before_left(toy: Toy) -> None:
    trial, (first, second) = toy.trial(0, HALVED, took(0.4)), rungs(toy, count=2)
    untrained = Rung(second.finalists, replace(second.settings, epochs=0.0))
    toy.finals.train_rung(trial, (first, untrained), 0)
    toy.finals.train_rung(trial, (first, untrained), 1)
    weights = [toy.context.store.required(RUNG.of(name))["weights"] for name in ("r1t0-rung1", "r1t0")]
    assert weights[0] == weights[1]


def test_stopped_within_a_rung_it_comes_to_the_same_weights(toy: Toy, heard: Listener) -> None:
    trial = toy.trial(0, HALVED, took(0.4))
    heard.stop_in = "Fine-tune finalist 0"
    with pytest.raises(StoppedError):
        toy.finals.train_rung(trial, rungs(toy), 0)
    heard.stop_in, heard.asked = None, False
    resumed = toy.finals.train_rung(trial, rungs(toy), 0)
    assert any("went on from its checkpoint at step 2 of" in note for note in heard.notes)

    stopped = toy.context.store.required(RUNG.of("r1t0"))
    again = replace(trial, index=1)
    assert toy.finals.train_rung(again, rungs(toy), 0) == resumed
    assert toy.context.store.required(RUNG.of("r1t1")) == stopped


# ---------------------------------------------------------------- artifacts


def test_a_brief_artifact_says_what_the_candidate_was_and_what_its_file_is(toy: Toy) -> None:
    trial = toy.trial(0, HALVED, took(0.41))
    brief = climbed(toy, trial)
    assert trial.candidate is not None
    assert (brief.before.search_accuracy, brief.before.measurement) == (trial.candidate.accuracy, trial.measurement)
    assert brief.after.measurement.ratio is not None
    assert brief.after.measurement.ratio.value == pytest.approx(0.4)
    assert brief.validation_accuracy == toy.context.store.required(RUNG.of("r1t0"))["validation_accuracy"]
    assert toy.context.store.artifacts() == [brief]
    assert widths(toy.finals.network(brief)) == (4, 4)


def test_a_stored_artifact_is_not_built_again(toy: Toy, heard: Listener) -> None:
    trial = toy.trial(0, HALVED, took(0.4))
    brief = climbed(toy, trial)
    before = list(heard.stages)
    assert toy.finals.fine_tune_short(trial) == brief
    assert heard.stages == before


@pytest.mark.parametrize(("ratio", "meets"), [(0.5, True), (0.51, False)])
def test_a_whole_file_meets_the_target_by_its_figure_and_a_miss_is_said(
    toy: Toy, heard: Listener, ratio: float, meets: bool
) -> None:
    brief = climbed(toy, toy.trial(0, HALVED, took(0.4)))
    measured = replace(brief, after=replace(brief.after, measurement=took(ratio, 0.01)))
    assert toy.finals.meets_targets(measured) is meets
    said = f"finalist 0 misses the target as a whole file ({ratio:.3f}× ± 0.010 of the base model's latency): left out"
    assert heard.notes == ([] if meets else [said])


def test_a_file_beyond_a_target_of_size_is_too_large(new_store: Store, null_agent: Agent, heard: Listener) -> None:
    toy = Toy(context=toy_context(new_store, null_agent, heard), limits={"size": 0.1})
    brief = climbed(toy, toy.trial(0, HALVED, took(0.4)))
    assert not toy.finals.meets_targets(brief)
    assert heard.notes[-1] == "finalist 0 misses the target as a whole file (too large): left out"


def full_of(toy: Toy, ratio: float = 0.4) -> tuple[Artifact, Artifact]:
    brief = climbed(toy, toy.trial(0, HALVED, took(0.4)))
    toy.know_whole(f"{brief.id}{FULL}", took(ratio))
    return brief, toy.finals.fine_tune_full(brief)


def test_the_last_round_trains_on_all_but_the_test_split_and_keeps_what_was_read_before(
    toy: Toy, heard: Listener
) -> None:
    brief, full = full_of(toy)
    assert heard.steps["Fine-tune the chosen one, 0"] == 5  # of 68 images, 16 at a time
    assert full.id == "r1t0-full"
    assert full.validation_accuracy == brief.validation_accuracy
    assert full.after.search_accuracy == brief.after.search_accuracy
    changed = (load_file(toy.context.store.blob(one.files[WEIGHTS]))["fc.weight"] for one in (brief, full))
    assert not torch.equal(*changed)
    (told,) = heard.notes
    assert told.startswith("1.25 passes over 68 images, about ") or told.startswith("1 pass over 68 images, about ")


@pytest.mark.parametrize("why", ["another round follows", "runs are compared"])
def test_where_splits_are_still_needed_it_trains_on_the_training_split_alone(
    new_store: Store, null_agent: Agent, heard: Listener, why: str
) -> None:
    toy = Toy(context=toy_context(new_store, null_agent, heard, rounds=2 if why == "another round follows" else 1))
    if why == "runs are compared":
        new_store.set(TUNING, {"of": "tuning", "settings": {}, "judged": False})
    _, full = full_of(toy)
    assert heard.steps["Fine-tune the chosen one, 0"] == 3  # of 40 images
    network = toy.finals.network(full)
    right = sum(int((network(x).argmax(1) == y).sum()) for x, y in toy.context.data.val.batches(12))
    assert full.validation_accuracy == right / 12
    assert full.after.search_accuracy == toy.builder.accuracy(network)


def test_a_chosen_one_that_is_measured_beyond_the_target_afterwards_stays_and_says_so(
    toy: Toy, heard: Listener
) -> None:
    _, full = full_of(toy, ratio=0.52)
    assert full in toy.context.store.artifacts()
    assert heard.notes[1:] == [
        "measured afresh, the chosen one is beyond a target that it met when it was chosen: "
        "0.520× ± 0.000 of the base model's latency"
    ]


# ---------------------------------------------------------------- as long as it helps


@pytest.mark.parametrize("judged", ["search and validation", "search alone"])
def test_by_default_it_trains_on_the_training_split_until_others_gain_nothing(
    new_store: Store, null_agent: Agent, heard: Listener, judged: str
) -> None:
    alone = judged == "search alone"
    auto = {"epochs": "auto", "max_epochs": 6}
    toy = Toy(context=toy_context(new_store, null_agent, heard, rounds=2 if alone else 1, fine_tuning=auto))
    _, full = full_of(toy)
    images = len(toy.context.data.search) if alone else len(toy.context.data.search_and_val())
    assert any(f"judged on {images} other images: cycles of 2, 4, 8" in note for note in heard.notes)
    network = toy.finals.network(full)
    assert full.validation_accuracy == accuracy(network, toy.context.data.val)
    assert full.after.search_accuracy == toy.builder.accuracy(network)
    trained = new_store.required(TRAINED_IN_FULL.of(full.id))
    assert trained["passes"] == 6


def test_stopped_in_a_training_of_unknown_length_it_comes_to_the_same_weights(
    new_store: Store, null_agent: Agent, heard: Listener
) -> None:
    toy = Toy(context=toy_context(new_store, null_agent, heard, fine_tuning={"epochs": "auto", "max_epochs": 6}))
    brief = climbed(toy, toy.trial(0, HALVED, took(0.4)))
    toy.know_whole(f"{brief.id}{FULL}", took(0.4))
    heard.stop_in = "Fine-tune the chosen one, 0"
    for _ in range(4):  # each time one step further
        heard.asked = False
        with pytest.raises(StoppedError):
            toy.finals.fine_tune_full(brief)
    heard.stop_in, heard.asked = None, False
    torn = toy.finals.fine_tune_full(brief)
    again = replace(brief, id="r1t0-again")
    toy.know_whole(f"{again.id}{FULL}", took(0.4))
    straight = toy.finals.fine_tune_full(again)
    assert torn.files[WEIGHTS] == straight.files[WEIGHTS]
