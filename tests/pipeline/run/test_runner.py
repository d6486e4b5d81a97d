"""A whole run in one process: stopped, resumed, judged once on the test split."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from pipeline.devices.agent_client import Agent
from pipeline.devices.board_pool import BoardPool
from pipeline.errors import StoppedError
from pipeline.records import FULL
from pipeline.run.inputs import Inputs
from pipeline.run.runner import Prepared, execute
from pipeline.store import Store
from pipeline.store.facts import BASE, CHOSEN, MODES, SECONDS, SPLITS, TUNING, WINNER
from tests.pipeline.listening import Listener
from tests.pipeline.run.toy_run import NullFiles, net, toy_context


def ready(store: Store, agent: Agent) -> Prepared:
    """What ``prepared`` gives, of the toy's data and network, in the null runtime's format."""
    context = toy_context(store, agent, target="size=0.8x")
    inputs = Inputs(
        config=context.config.model_copy(update={"weights": None}), data=context.data, model=net(),
        example=context.example, network=torch.fx.symbolic_trace(net()),
    )  # fmt: skip
    return Prepared(inputs=inputs, boards=BoardPool.of(agent), format=NullFiles(context.example))


@pytest.fixture(scope="module")
def ended(null_agent: Agent, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, list[Listener]]]:
    """A run that was stopped in its base training and in its search, and then went to its end; only to be read."""
    stages, threads = ("Train a base model (no weights given)", "Search with random", None), torch.get_num_threads()
    torch.set_num_threads(1)
    heard = [Listener(stop_in=stage) for stage in stages]
    with Store.create(tmp_path_factory.mktemp("runs"), label="toy") as store:
        for listener in heard[:-1]:
            with pytest.raises(StoppedError):
                execute(ready(store, null_agent), store, listen=listener, stopping=lambda: listener.asked)  # noqa: B023
        assert (store.status, store.get(CHOSEN)) == ("running", None)
        execute(ready(store, null_agent), store, listen=heard[-1], stopping=lambda: False)
        yield store, heard
    torch.set_num_threads(threads)


def test_a_run_ends_with_one_chosen_artifact_a_report_and_its_status(ended: tuple[Store, list[Listener]]) -> None:
    store, _ = ended
    (chosen,) = [artifact for artifact in store.artifacts() if artifact.chosen]
    assert chosen.id == store.get(CHOSEN) == store.get(WINNER.of(1))
    assert chosen.id.endswith(FULL)
    assert store.status == "finished"
    assert "<html" in (store.path / "report.html").read_text("utf-8")


def test_the_test_split_is_read_at_the_end_for_the_base_and_the_chosen_one_alone(
    ended: tuple[Store, list[Listener]],
) -> None:
    store, heard = ended
    assert [listener.stages.count("Read the test split, once") for listener in heard] == [0, 0, 1]
    assert store.required(BASE).test_accuracy is not None
    judged = {artifact.id: artifact.after.test_accuracy is not None for artifact in store.artifacts()}
    assert judged == {artifact.id: artifact.chosen for artifact in store.artifacts()}


def test_each_part_goes_on_where_the_one_before_stopped(ended: tuple[Store, list[Listener]]) -> None:
    store, (first, second, third) = ended
    assert "Measure the base model" not in first.stages
    assert second.notes[0].startswith("the training went on from its checkpoint at step 2 of")
    assert "Measure the base model" not in third.stages
    assert [tried.replayed for tried in third.tried] == [True] * len(second.tried) + [False] * (3 - len(second.tried))
    assert store.required(SECONDS) > 0
    assert store.required(SPLITS)["train"] == 40
    assert store.get(MODES) is not None


def test_seconds_of_work_are_added_to_those_of_earlier_parts(
    ended: tuple[Store, list[Listener]], null_agent: Agent, new_store: Store
) -> None:
    new_store.set(SECONDS, 1000.0)
    with pytest.raises(StoppedError):
        execute(ready(new_store, null_agent), new_store, listen=Listener(), stopping=lambda: True)
    assert 1000.0 <= new_store.required(SECONDS) < 1100.0


@pytest.mark.slow
@pytest.mark.parametrize("judged", [False, True])
def test_one_of_several_runs_of_a_tuning_reads_the_test_split_only_when_it_is_asked_to(
    new_store: Store, null_agent: Agent, judged: bool
) -> None:
    new_store.set(TUNING, {"of": "tuning", "settings": {}, "judged": judged})
    execute(ready(new_store, null_agent), new_store, listen=Listener(), stopping=lambda: False)
    (chosen,) = [artifact for artifact in new_store.artifacts() if artifact.chosen]
    assert (chosen.after.test_accuracy is not None) is judged
    assert (new_store.required(BASE).test_accuracy is not None) is judged
