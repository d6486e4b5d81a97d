"""One device and one base model: a real agent, a real runtime, a real store."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest

from pipeline.devices.agent_client import Agent, open_agent
from pipeline.devices.board_pool import BoardPool
from pipeline.errors import DeviceError
from pipeline.evaluation.candidate_builder import Built
from pipeline.evaluation.device_bench import Bench, longer
from pipeline.export.format import Skeleton
from pipeline.export.onnx.skeleton import skeleton
from pipeline.measurement.validity import why_invalid
from pipeline.records import Device, Measurement, MeasureSettings
from pipeline.store import Store
from tests.examples import candidate
from tests.recordings import QUICK, dense, recorded, rewritten, tape


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.create(tmp_path / "runs", label="bench") as made:
        yield made


def relu() -> bytes:
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["x"], ["y"])], "g",
        [value("x", onnx.TensorProto.FLOAT, [1, 4096])], [value("y", onnx.TensorProto.FLOAT, [1, 4096])],
    )  # fmt: skip
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=7)
    return bytes(model.SerializeToString())


def test_figures_in_doubt_are_taken_once_more_and_keep_their_doubts(store: Store, tmp_path: Path) -> None:
    starts: list[object] = []
    device = Device(name="here", kind="local", agent_dir=str(tmp_path / "agent"), measure=replace(QUICK, ci_rel=1e-9))
    doubtful = Built(candidate(key="relu"), Skeleton(skeleton(relu()), 1000, "relu"), {})

    def on_event(event: Any) -> None:
        if event.get("stage") == "warm-up":
            starts.append(event)

    with open_agent(device, on_event=on_event) as agent:
        bench = Bench(BoardPool.of(agent), store, skeleton(relu()))
        first, second = bench.measure(doubtful), bench.measure(doubtful)
    assert (first[0], True) == second
    assert "noisy" in first[0].flags
    assert first[0].processes == 2
    assert len(starts) == 2


def test_a_longer_measurement_stays_within_limits_that_move_with_it() -> None:
    nine = longer(MeasureSettings(min_s=10, max_s=60, timeout_s=300), 9.0)
    assert (nine.min_s, nine.max_s, nine.timeout_s) == (90, 180, 420)
    assert nine.ci_rel == pytest.approx(0.02 / 9)
    assert longer(QUICK, 1.0) == QUICK


# ---------------------------------------------------------------- played back

BASE, CUT = skeleton(dense(seed=0)), skeleton(dense(seed=0, width=16))
NARROW = Skeleton(CUT, 1000, "16 channels")
BUILT = Built(candidate(key="16"), NARROW, {})


def throttled(raw: dict[str, Any]) -> None:
    raw["before"]["throttled"], raw["after"]["throttled"] = "0x0", "0x50005"


def crowded(raw: dict[str, Any]) -> None:
    raw["before"]["cpu_busy_s"], raw["after"]["cpu_busy_s"] = 0.0, 900.0
    raw.update(wall_s=1.0, own_cpu_s=0.0, cores=2)


def calm(raw: dict[str, Any]) -> None:
    """Change a measurement into one of a board with nothing else to do, whatever this machine was at."""
    raw["before"].pop("throttled", None)
    raw["before"].pop("cpu_busy_s", None)
    raw["during"] = []
    for turn, net in enumerate(filter(None, (raw["candidate"], raw.get("reference")))):
        net["blocks"] = [{"start_s": at, "end_s": at + 0.9, "ms": [90.0] * 10} for at in range(turn, 12, 2)]


@pytest.fixture(scope="module")
def three_times(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recording of both networks, measured three times."""

    def use(agent: Agent) -> None:
        for _ in range(3):
            agent.measure(BASE, "skeleton", reference=(BASE, "skeleton"))
            agent.measure(CUT, "skeleton", reference=(BASE, "skeleton"))

    return recorded(tmp_path_factory.mktemp("three-times"), use)


def played(
    three_times: Path, store: Store, spoilt: int, spoil: Callable[[dict[str, Any]], None], *, board: bool = True
) -> Iterator[tuple[Bench, list[str]]]:
    """A bench whose device answers every question anew, its first ``spoilt`` measurements invalid."""

    def change(number: int, raw: dict[str, Any]) -> None:
        calm(raw)
        if number // 2 < spoilt:
            spoil(raw)

    asked: list[str] = []
    path = rewritten(three_times, change, board=board)
    with open_agent(tape(path), record=lambda verb, *_: asked.append(verb)) as agent:
        yield Bench(BoardPool.of(agent), store, BASE), asked


def test_what_is_known_is_not_measured_again(store: Store, three_times: Path) -> None:
    for bench, asked in played(three_times, store, 0, throttled):
        first = bench.base()
        assert bench.base() == first
        assert asked.count("measure") == QUICK.processes
    assert (first.flags, first.processes) == ((), QUICK.processes)


def test_an_invalid_measurement_is_taken_again_and_a_valid_one_stands(store: Store, three_times: Path) -> None:
    for bench, asked in played(three_times, store, 2, throttled):
        found, known = bench.measure(BUILT)
        assert asked.count("measure") == 3
    assert (found.flags, known) == ((), False)
    assert found.conditions["times_measured"] == 3


def test_one_that_stays_invalid_is_kept_for_the_record_and_not_measured_a_second_time(
    store: Store, three_times: Path
) -> None:
    for bench, asked in played(three_times, store, 3, throttled):
        found, _ = bench.measure(BUILT)
        assert bench.measure(BUILT) == (found, True)
        assert bench.measure_skeleton("16", lambda: NARROW) is None
        assert asked.count("measure") == 3
    assert why_invalid(found) == ("throttled", "undervoltage")


class KilledError(Exception):
    """The run ends here, as if it had been killed."""


class Killed:
    """An agent whose host is killed after so many answers."""

    def __init__(self, agent: Agent, answers: int) -> None:
        self.device, self.shared = agent.device, agent.shared
        self._agent, self._left = agent, answers

    def measure(self, *arguments: Any, **more: Any) -> Measurement:
        if self._left == 0:
            raise KilledError
        self._left -= 1
        return self._agent.measure(*arguments, **more)


@pytest.mark.parametrize("answered", [1, 2])
def test_a_run_killed_between_two_passes_of_a_measurement_repeats_none_of_them(
    store: Store, three_times: Path, answered: int
) -> None:
    for bench, asked in played(three_times, store, 3, throttled):
        with pytest.raises(KilledError):
            Bench(BoardPool.of(Killed(bench.agent, answered)), store, BASE).measure(BUILT)  # type: ignore[arg-type]
        assert asked.count("measure") == answered
        found, known = bench.measure(BUILT)
        assert asked.count("measure") == 3
    assert (found.conditions["times_measured"], known) == (3, False)


def test_passes_of_a_measurement_that_ended_the_run_are_taken_anew_when_it_is_resumed(
    store: Store, three_times: Path
) -> None:
    for _ in range(2):
        for bench, asked in played(three_times, store, 3, throttled):
            with pytest.raises(DeviceError, match="throttled"):
                bench.base()
            assert asked.count("measure") == 3


def thinned(digest: str) -> Built:
    """The same shape with other weights at zero."""
    return Built(candidate(key=f"16+{digest}"), NARROW, {})


def test_what_is_sound_of_one_candidate_holds_for_all_of_its_shape_and_what_is_in_doubt_for_itself(
    store: Store, three_times: Path
) -> None:
    for bench, asked in played(three_times, store, 2, crowded, board=False):
        doubtful, _ = bench.measure(thinned("aa"))
        sound, known = bench.measure(thinned("bb"))
        assert bench.measure(thinned("cc")) == (sound, True)
        assert asked.count("measure") == 3
    assert "competing_load" in doubtful.flags
    assert "competing_load" not in sound.flags
    assert not known


def test_without_valid_figures_of_the_base_model_the_run_ends_and_says_what_to_do(
    store: Store, three_times: Path
) -> None:
    said = r"tape: quarantined: throttled, undervoltage, measured 3 times: .*pipeline devices doctor tape.*resume"
    for bench, _ in played(three_times, store, 3, throttled):
        with pytest.raises(DeviceError, match=said):
            bench.base()
    assert store.recall("base") is None  # once the board is fixed, a resumed run measures it


def test_on_the_users_own_machine_other_load_is_tolerated_and_named(store: Store, three_times: Path) -> None:
    for bench, _ in played(three_times, store, 3, crowded, board=False):
        found, _ = bench.measure(BUILT)
    assert "competing_load" in found.flags
    assert found.conditions["tolerated"] == ["competing_load"]
    assert why_invalid(found) == ()


def test_on_a_board_other_load_is_never_tolerated(store: Store, three_times: Path) -> None:
    for bench, _ in played(three_times, store, 3, crowded):
        found, _ = bench.measure(BUILT)
    assert why_invalid(found) == ("competing_load",)


def test_only_a_candidate_of_the_search_may_be_stopped_early(store: Store, tmp_path: Path) -> None:
    told: list[Any] = []
    settings = replace(QUICK, min_s=0.2, max_s=5.0)
    device = Device(name="here", kind="local", agent_dir=str(tmp_path / "agent"), measure=settings)

    def note(verb: str, arguments: Any, *_: Any) -> None:
        if verb == "measure":
            told.append(arguments["reject_above"])

    with open_agent(device, record=note) as agent:
        bench = Bench(BoardPool.of(agent), store, BASE, limits={"latency": 0.5})
        bench.base()
        bench.measure_skeleton("single", lambda: NARROW)
        bench.measure_file(dense(seed=0, width=16), "whole")
        assert set(told) == {None}
        wide = replace(NARROW, data=BASE, structure="as wide as the base model")
        found: Measurement = bench.measure(Built(candidate(key="64"), wide, {}))[0]
        assert bench.spreads
        assert told[-1] == pytest.approx(0.5 * math.exp(3 * bench.spreads["latency"].between))
        assert found.early
        count = len(told)
        assert bench.measure(Built(candidate(key="64 too"), wide, {})) == (found, True)
        assert len(told) == count
        exact = bench.measure_skeleton("a single cut", lambda: wide)  # less exact figures are not enough to plan by
    assert len(told) > count
    assert exact is not None
    assert not exact.early
    assert found.ratio is not None


def test_a_second_measurement_is_longer_and_holds_for_all_of_a_shape(store: Store, tmp_path: Path) -> None:
    settings, least_s = replace(QUICK, min_s=0.05, max_s=1.0), []

    def note(verb: str, arguments: Any, *_: Any) -> None:
        if verb == "measure":
            least_s.append(arguments["min_s"])

    device = Device(name="here", kind="local", agent_dir=str(tmp_path / "agent"), measure=settings)
    with open_agent(device, record=note) as agent:
        bench = Bench(BoardPool.of(agent), store, BASE)
        bench.measure(Built(candidate(key="32"), NARROW, {}))
        second = bench.remeasure(NARROW)
        assert bench.remeasure(replace(NARROW, data=b"never sent")) == second
    assert len(least_s) == 1 + settings.processes
    assert sum(least_s[1:]) == pytest.approx(3 * least_s[0])
    assert second.ratio is not None


def test_what_differs_between_processes_is_in_every_interval_of_one_process(store: Store, tmp_path: Path) -> None:
    """A board whose processes differ by 2 %, while no block differs from the next."""

    def each_process(agent: Agent) -> None:
        for _ in range(QUICK.processes):
            agent.measure(BASE, "skeleton", reference=(BASE, "skeleton"))
        agent.measure(CUT, "skeleton", reference=(BASE, "skeleton"))

    def change(number: int, raw: dict[str, Any]) -> None:
        calm(raw)
        factor = (1.02, 0.98, 1.0, 0.5)[number]
        for block in raw["candidate"]["blocks"]:
            block["ms"] = [80.0 * factor] * 10

    path = rewritten(recorded(tmp_path, each_process), change)
    with open_agent(tape(path)) as agent:
        bench = Bench(BoardPool.of(agent), store, BASE)
        base = bench.base()
        found = bench.measure(BUILT)[0].ratio
        assert found is not None
        spread = bench.spreads["latency"]
    assert (spread.between, spread.freedom) == (pytest.approx(0.02, rel=0.01), 2)
    assert base.p50_ms.half_width == pytest.approx(4.303 * 0.02 * 80 / math.sqrt(3), rel=0.02)
    assert math.log(found.high / found.value) == pytest.approx(4.303 * 0.02, rel=0.02)


def test_a_second_look_adds_processes_to_those_of_the_first(store: Store, tmp_path: Path) -> None:
    device = Device(name="here", kind="local", agent_dir=str(tmp_path / "agent"), measure=QUICK)
    asked: list[str] = []
    with open_agent(device, record=lambda verb, *_: asked.append(verb)) as agent:
        bench = Bench(BoardPool.of(agent), store, BASE)
        first, second = bench.measure_file(dense(seed=0), "whole"), bench.measure_file(dense(seed=0), "whole", looks=2)
    assert (first.processes, second.processes, asked.count("measure")) == (
        QUICK.processes,
        2 * QUICK.processes,
        2 * QUICK.processes,
    )
