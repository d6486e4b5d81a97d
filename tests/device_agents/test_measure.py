import json

import pytest

from device_agents import measure
from device_agents.arguments import Measure, Power
from device_agents.errors import AgentError
from device_agents.protocol import BAD_REQUEST, INVALID, REFUSED, VERSION

QUICK = {"runtime": "null", "warmup_s": 0.01, "min_s": 0.05, "max_s": 30.0, "block_s": 0.01, "ci_rel": 0.5}


@pytest.fixture
def model(tmp_path):
    """Write a null model; return its path."""

    def model(**behaviour):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.json"
        path.write_text(json.dumps(behaviour))
        return str(path)

    return model


def run(tmp_path, candidate, events=None, **arguments):
    asked = Measure(**{"candidate": candidate, **QUICK, **arguments})
    return measure.run(asked, str(tmp_path), (events if events is not None else []).append)


def test_every_inference_is_timed_and_grouped_in_blocks(tmp_path, model):
    result = run(tmp_path, model(ms=1.0, burn=True))
    blocks = result["candidate"]["blocks"]

    assert len(blocks) >= 5
    assert sum(len(block["ms"]) for block in blocks) >= 100
    for block in blocks:
        assert block["end_s"] - block["start_s"] >= 0.01
        assert sum(block["ms"]) <= (block["end_s"] - block["start_s"]) * 1e3 + 0.001
        assert min(block["ms"]) >= 1.0
    assert result["reference"] is None
    assert (result["runtime"], result["threads"], result["idle"], result["power"]) == (f"null {VERSION}", 1, [], None)
    assert result["peak_rss_mb"] > 1


def test_candidate_and_reference_take_turns_back_and_forth(tmp_path, model):
    result = run(tmp_path, model(ms=0.5), reference=model(ms=1.5))
    blocks = [(block["start_s"], name) for name in ("candidate", "reference") for block in result[name]["blocks"]]
    order = [name[0] for _, name in sorted(blocks)]

    assert len(order) >= 10
    assert order == list("crrc" * len(order))[: len(order)]
    assert len(result["candidate"]["blocks"]) == len(result["reference"]["blocks"])
    assert min(result["reference"]["blocks"][0]["ms"]) >= 1.5


def test_a_model_slower_than_a_block_runs_once_a_block_and_the_time_limit_ends_it(tmp_path, model):
    blocks = run(tmp_path, model(ms=50.0), max_s=0.18)["candidate"]["blocks"]

    assert {len(block["ms"]) for block in blocks} == {1}
    assert 1 <= len(blocks) <= 4


def test_idle_windows_frame_the_measurement_only_when_power_is_wanted(tmp_path, model):
    events = []
    result = run(tmp_path, model(ms=0.5), events, power=Power("rapl"), idle_s=0.1)
    (first, last), blocks = result["idle"], result["candidate"]["blocks"]

    assert first[1] - first[0] >= 0.1
    assert first[1] <= blocks[0]["start_s"]
    assert blocks[-1]["end_s"] <= last[0]
    assert [event["stage"] for event in events] == ["idle", "warm-up", "measure", "idle"]


def test_progress_comes_at_each_stage_and_every_second(tmp_path, model):
    events = []
    run(tmp_path, model(ms=5.0), events, min_s=1.2, max_s=1.3)

    first, *rest = (event["stage"] for event in events)
    assert first == "warm-up"
    assert len(rest) >= 2
    assert set(rest) == {"measure"}
    assert [event["seconds"] for event in events] == sorted(event["seconds"] for event in events)
    assert "temperature_c" in events[0]


def test_the_time_to_load_is_told(tmp_path, model):
    assert run(tmp_path, model(load_ms=30.0))["candidate"]["load_ms"] >= 30


@pytest.mark.parametrize(
    ("behaviour", "kind", "message"),
    [
        ({"refuse": "opset 99 is unknown"}, REFUSED, "ValueError: opset 99 is unknown"),
        ({"fail_after": 0}, REFUSED, "RuntimeError: told to fail"),
        ({"fail_after": 40}, REFUSED, "RuntimeError: told to fail"),
        ({"outputs": [1.0, float("nan")]}, INVALID, "not finite"),
        ({"outputs": [float("inf")]}, INVALID, "not finite"),
    ],
)
def test_a_candidate_that_fails_says_how(tmp_path, model, behaviour, kind, message):
    with pytest.raises(AgentError, match=message) as caught:
        run(tmp_path, model(ms=0.1, **behaviour))

    assert caught.value.kind == kind


def test_an_unknown_runtime_is_the_request_s_fault(tmp_path, model):
    with pytest.raises(AgentError, match="unknown runtimes plugin") as caught:
        run(tmp_path, model(), runtime="magic")

    assert caught.value.kind == BAD_REQUEST


def test_a_candidate_that_is_surely_too_slow_is_not_measured_to_the_end(tmp_path, model):
    told = {"reference": model(ms=1.0, burn=True), "min_s": 0.1, "max_s": 60.0, "ci_rel": 1e-9, "reject_above": 1.5}
    slow = run(tmp_path, model(ms=3.0, burn=True), **told)

    assert slow["early"]
    assert len(slow["candidate"]["blocks"]) >= 8
    assert not run(tmp_path, model(ms=1.0, burn=True), **dict(told, max_s=0.5))["early"]


@pytest.mark.parametrize("beside", [False, True])
def test_with_power_it_goes_on_until_the_energy_is_known_too(tmp_path, model, beside):
    told = []

    def energy_enough(turns):
        told.append(turns)
        return len(told) == 3

    path = model(ms=0.2, burn=True)
    reference = path if beside else None
    asked = Measure(path, reference=reference, **QUICK, idle_s=0.0, power=Power("rapl"))
    result = measure.run(asked, str(tmp_path), lambda _: None, energy_enough)

    assert len(told) == 3
    models = [result[name]["blocks"] for name in ("candidate", "reference") if result[name]]
    assert len(models) == 1 + beside
    assert [turn for turns in told for turn in turns] == [
        [[b["start_s"], b["end_s"], len(b["ms"])] for b in turn] for turn in zip(*models, strict=True)
    ], "each turn is told once"


def test_the_board_is_looked_at_while_it_works_and_the_conditions_are_told(tmp_path, model):
    result = run(tmp_path, model(ms=1.0, burn=True), affinity=None, spinning=False)

    assert result["during"][0].keys() == result["before"].keys()
    assert result["conditions"] == {"affinity": None, "spinning": False}
    assert result["own_cpu_s"] > 0


def test_the_reference_can_be_loaded_first_and_memory_is_still_the_candidate_s_alone(tmp_path, model):
    asked = Measure(**{"candidate": model(ms=0.5), "reference": model(ms=1.5), **QUICK})
    first, swapped = (measure.run(asked, str(tmp_path), [].append, reference_first=swap) for swap in (False, True))
    assert [min(block["ms"]) >= 1.5 for block in swapped["reference"]["blocks"]] == [True] * len(
        swapped["reference"]["blocks"]
    )
    assert swapped["peak_rss_mb"] == pytest.approx(first["peak_rss_mb"], rel=0.1)
