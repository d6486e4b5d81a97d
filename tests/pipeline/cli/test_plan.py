"""`pipeline plan`: another target by what a run has learnt; and runs that begin with that."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable

import pytest

import pipeline
from pipeline.run.replanning import Replanned
from pipeline.store import Store
from pipeline.store.facts import LEARNT, POLICY
from tests.command_line import Desk


@pytest.fixture
def own(ran: Desk, new_desk: Callable[[], Desk]) -> Desk:
    """A folder with a copy of the finished run, which may be written."""
    desk = new_desk()
    shutil.copytree(ran.runs, desk.runs)
    return desk


def test_a_run_keeps_its_policy_and_how_it_learnt(ran: Desk) -> None:
    with Store.open(ran.runs, "latest") as store:
        assert store.blob(store.required(POLICY.of(1))).stat().st_size > 1000
        learnt = store.required(LEARNT.of(1))
    assert [burst.updates for burst in learnt] == sorted({burst.updates for burst in learnt})
    assert all(burst.loss >= 0 for burst in learnt)


def test_another_target_is_planned_in_words_and_in_json(ran: Desk) -> None:
    shown = ran.done("plan", "latest", "--target", "latency=0.9x", "--no-measure")
    assert "by its own policy, in " in shown.out
    assert "predicted" in shown.out
    assert "next    pipeline run --warm-start " in shown.out
    found = json.loads(ran.done("plan", "latest", "--target", "latency=0.9x", "--no-measure", "--json").out)
    assert found["target"] == {"latency": 0.9}
    assert found["predicted"]["latency"] <= 0.9 * 1.02
    assert len(found["levels"]) == len(found["groups"])
    assert found["measured"] is None


def test_the_same_target_gives_the_same_plan_and_a_tighter_one_cuts_more(ran: Desk) -> None:
    def planned(share: float) -> Replanned:
        return pipeline.plan("latest", [f"latency={share}x"], runs=ran.runs)

    assert planned(0.9).plan == planned(0.9).plan
    assert planned(0.6).costs["latency"] < planned(0.95).costs["latency"]


def test_what_cannot_be_planned_is_said(ran: Desk) -> None:
    refused = ran.do("plan", "latest", "--target", "power=0.5x", "--no-measure")
    assert refused.code != 0
    assert "had no target of power: nothing is known of it; it had: latency" in refused.err
    assert "no run" in ran.do("plan", "nothing", "--target", "latency=0.5x").err


@pytest.mark.slow
def test_a_plan_is_evaluated_and_measured_once_beside_what_the_search_found(own: Desk) -> None:
    found = json.loads(own.done("plan", "latest", "--target", "latency=0.9x", "--json").out)
    assert 0 < found["measured"]["accuracy"] <= 1
    assert found["measured"]["measurement"]["ratio"]["value"] > 0
    assert found["searched"] is None or 0 < found["searched"]["accuracy"] <= 1


@pytest.mark.slow
def test_a_run_begins_with_the_policy_of_another_and_a_run_without_one_is_refused(own: Desk) -> None:
    own.done("run", "--config", "run.yaml", "--warm-start", "latest", "--epochs", "0.1")
    with Store.open(own.runs, "latest") as store:
        assert store.get(POLICY) is not None
    own.done("run", "--config", "run.yaml", "--strategy", "random", "--epochs", "0.1", "--trials", "2")
    refused = own.do("run", "--config", "run.yaml", "--warm-start", "latest")
    assert refused.code != 0
    assert "keeps no policy" in refused.err
