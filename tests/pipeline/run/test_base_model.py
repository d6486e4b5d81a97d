"""The base model of a run: trained where no weights are given, measured once, the measure of all targets."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pipeline.devices.agent_client import Agent
from pipeline.run.base_model import Base, make_base
from pipeline.store import Store
from pipeline.store.facts import BASE, BASE_WEIGHTS, SPREADS
from pipeline.targets import parse_target
from tests.examples import figures, measurement, power
from tests.pipeline.listening import Listener
from tests.pipeline.run.toy_run import net, took, toy_context


@pytest.fixture
def heard() -> Listener:
    return Listener()


def knowing(store: Store) -> Store:
    """The same, where the base model was measured before the run was resumed."""
    store.remember("base process 1", took(1.0))
    return store


def test_weights_that_are_given_are_kept_as_they_are_and_not_trained(
    new_store: Store, null_agent: Agent, heard: Listener
) -> None:
    base = make_base(toy_context(knowing(new_store), null_agent, heard), net())
    assert all(torch.equal(value, net().state_dict()[name]) for name, value in base.network.state_dict().items())
    assert heard.stages == ["Measure the base model"]
    assert new_store.required(BASE) == base.figures


def test_without_weights_a_base_model_is_trained_and_its_checkpoint_goes(
    new_store: Store, null_agent: Agent, heard: Listener
) -> None:
    base = make_base(toy_context(knowing(new_store), null_agent, heard, weights=None), net())
    assert heard.stages == ["Train a base model (no weights given)", "Measure the base model"]
    assert not torch.equal(base.network.state_dict()["fc.weight"], net().fc.weight)
    assert new_store.checkpoint("base").read() is None


def test_a_resumed_run_takes_the_stored_weights_and_figures_whatever_it_is_handed(
    new_store: Store, null_agent: Agent, heard: Listener
) -> None:
    first = make_base(toy_context(knowing(new_store), null_agent), net())
    sent = null_agent.bytes_sent
    again = make_base(toy_context(new_store, null_agent, heard, weights=None), net(seed=1))
    assert again.figures == first.figures
    assert again.skeleton == first.skeleton
    assert torch.equal(again.network.state_dict()["fc.weight"], net().fc.weight)
    assert (heard.stages, null_agent.bytes_sent) == ([], sent)


def test_a_penalty_for_the_base_training_is_said_to_do_nothing_where_there_is_none(
    new_store: Store, null_agent: Agent, heard: Listener
) -> None:
    make_base(toy_context(knowing(new_store), null_agent, heard, base_training={"sparsity": {"l1": 1e-4}}), net())
    assert heard.notes[0] == ("base_training.sparsity is left out: weights are given, so no base model is trained")


def test_it_is_measured_on_the_device_and_its_figures_are_told(
    new_store: Store, null_agent: Agent, heard: Listener
) -> None:
    base = make_base(toy_context(new_store, null_agent, heard), net())
    assert base.figures.measurement.runtime.startswith("null")
    assert base.figures.size_bytes == 4 * base.figures.parameters
    assert new_store.get(BASE_WEIGHTS) is not None
    assert new_store.get(SPREADS) == {}  # one process says nothing of how processes differ
    (told,) = heard.notes
    assert told.startswith(f"base: {base.figures.search_accuracy:.1%} on patterns's search split, ")


# ---------------------------------------------------------------- targets


def of(**changes: object) -> Base:
    measured = replace(measurement(2.0), **changes)  # type: ignore[arg-type]
    network = torch.fx.symbolic_trace(net())
    return Base(network=network, skeleton=b"", figures=figures(measurement=measured, size_bytes=1000))


def test_a_target_in_its_unit_is_a_share_of_what_the_base_model_costs() -> None:
    base = of(power=power(4.0))
    shares = base.limits([parse_target(text) for text in ("latency=1ms", "power=3w", "density=0.2x")])
    assert shares == {"latency": pytest.approx(0.5), "power": pytest.approx(0.75), "density": pytest.approx(0.2)}
    assert base.figure("size") == 1000
    assert base.figure("energy") == pytest.approx(4.0 * 1.3)


def test_what_was_not_measured_has_no_figure() -> None:
    with pytest.raises(ValueError, match="energy was not measured"):
        of().figure("energy")
