import os

import pytest

from device_agents import protocol
from tests.device_agents.harness import descendants

QUICK = {"warmup_s": 0.01, "min_s": 0.05, "max_s": 0.5, "block_s": 0.01, "ci_rel": 0.5, "timeout_s": 30}


def test_the_runtime_runs_on_the_cores_that_were_asked_for_and_the_agent_on_all(agent, put):
    core = max(os.sched_getaffinity(0))
    agent.send(
        "measure", candidate=put({"ms": 1.0, "leave": True}), runtime="null", affinity=[core],
        **{**QUICK, "min_s": 60, "max_s": 60, "timeout_s": 60},
    )  # fmt: skip
    while agent.receive().get("stage") != "measure":
        pass
    family = descendants(agent.process.pid)

    assert len(family) == 2  # the worker, and what the model started in it
    assert {frozenset(os.sched_getaffinity(pid)) for pid in family} == {frozenset({core})}
    assert os.sched_getaffinity(agent.process.pid) == os.sched_getaffinity(0)


def test_affinity_is_recorded(agent, put):
    core = min(os.sched_getaffinity(0))
    result = agent.result("measure", candidate=put({}), runtime="null", affinity=[core], **QUICK)

    assert result["conditions"]["affinity"] == [core]


@pytest.mark.parametrize("verb", ["measure", "verify"])
def test_a_core_that_is_not_there_is_named_with_those_there_are(agent, put, verb):
    arguments = {"measure": QUICK, "verify": {"inputs": put(b"", "npy")}}[verb]
    error = agent.error(verb, candidate=put({}), runtime="null", affinity=[0, 4095], **arguments)

    there = ", ".join(map(str, sorted(os.sched_getaffinity(0))))
    assert error["kind"] == protocol.BAD_REQUEST
    assert error["message"] == f"affinity: no core 4095 here now; there are {there}"
