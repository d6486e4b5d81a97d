"""The controller of a bundle: Python 3.6, what it decides, and that it falls back to the rule and says so."""

from __future__ import annotations

import ast
import copy
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from deploy import controller
from deploy.controller import INPUTS, KEEP, OWN, Controller, Frame, Policy, look
from deploy.runtime import Model

FILE = Path(controller.__file__)
FED = {"shape": [3, 16, 16], "normalisation": {"mean": [0.5] * 3, "std": [0.25] * 3}}
MANIFEST = {"input": FED, "classes": ["dark", "light"]}
KEPT = {"difference": 5.0, "margin": 0.5, "frames": 3}


def net(inputs: int, bias: list[float]) -> dict[str, Any]:
    """Return a network that answers ``bias`` whatever it sees."""
    return {"hidden": [[0.0] * 4] * inputs, "bias": [0.0] * 4, "out": [[0.0] * len(bias)] * 4, "last": bias}


def settings(**changes: Any) -> dict[str, Any]:
    rule = {"start": 0, "gate": -1.0, "instead": 0, "escalate_to": 1, "threshold": 0.5, "sticky_difference": 0.0}
    count = len(INPUTS)
    learned = {
        "mean": [0.0] * count, "std": [1.0] * count, "low": [-99.0] * count, "high": [99.0] * count, "hysteresis": 0.01,
        "first": net(count + 3, [0.0, 1.0]), "second": net(count + 4 + len(OWN), [0.0, 0.0]),
    }  # fmt: skip
    point = {"rule": {**rule, "keep": KEPT}, "learned": {"price": 0.1, "keep": KEPT}}
    saving = {"rule": {**rule, "threshold": -1.0, "keep": KEPT}, "learned": {"price": 9.0, "keep": KEPT}}
    return {
        "variants": [{"name": "small", "file": "a.onnx", "cost": 0.5, "latency_ms": 1.0},
                     {"name": "large", "file": "b.onnx", "cost": 1.0, "latency_ms": 2.0}],
        "deadline_ms": None, "points": {"normal": point, "saving": saving}, "learned": learned, "ring": 5,
        "limits": {"temperature_c": [None, 80.0], "throttled": [None, 0.5], "battery": [0.2, None]},
        **changes,
    }  # fmt: skip


def model(sureness: float) -> Model:
    """Return a network that tells dark from light, by so much."""

    def network(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        mean = float(batch.mean())
        return np.array([[-sureness * mean, sureness * mean]], np.float32)

    return Model(MANIFEST, network)


def frame(value: int, noise: int = 0, seed: int = 0) -> NDArray[np.uint8]:
    drawn = np.random.default_rng(seed).integers(0, noise + 1, (16, 16, 3))
    return np.clip(value + drawn, 0, 255).astype(np.uint8)


def open_controller(told: dict[str, Any], **sensors: Any) -> Controller:
    return Controller(told, [model(0.3), model(9.0)], sensors)


def test_it_is_python_3_6() -> None:
    ast.parse(FILE.read_text("utf-8"), feature_version=(3, 6))
    vermin = [str(Path(sys.executable).with_name("vermin")), "-t=3.6-", "--violations", "--no-tips", str(FILE)]
    done = subprocess.run(vermin, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("side", [1, 8, 32, 224, 640])
def test_a_frame_of_any_size_is_looked_at(side: int) -> None:
    dark, light = look(np.zeros((side, side, 3), np.uint8)), look(np.full((side, side, 1), 255, np.uint8))
    assert (dark.statistics[0], light.statistics[0]) == (0.0, 1.0)
    assert np.abs(light.thumbnail - dark.thumbnail).mean() == 255
    assert light.statistics[1:] == (0.0, 0.0, 0.0)


def test_an_unsure_answer_is_given_again_by_the_other_network_and_a_sure_one_kept() -> None:
    adaptive = open_controller(settings(learned=None))
    first, second, far = adaptive.step(frame(200)), adaptive.step(frame(202)), adaptive.step(frame(20))
    assert (first.label, first.variant, first.escalated, first.kept, first.by) == (
        "light",
        "large",
        True,
        False,
        "rule",
    )
    assert (second.label, second.kept) == ("light", True)
    assert (far.label, far.kept) == ("dark", False)
    assert [entry.last for entry in adaptive.ring] == [1, KEEP, 1]


def test_an_answer_grows_old_and_the_ring_stays_small() -> None:
    adaptive = open_controller(settings(learned=None))
    assert [adaptive.step(frame(200)).kept for _ in range(9)] == [False, True, True, True] * 2 + [False]
    assert len(adaptive.ring) == 5


def test_the_learned_policy_chooses_where_it_ships() -> None:
    adaptive = open_controller(settings())
    found = adaptive.step(frame(200))
    assert (found.variant, found.by, found.why) == ("large", "learned", "")


def test_a_sensor_beyond_its_limit_saves_and_one_that_dies_leaves_the_choice_to_the_rule() -> None:
    degrees = [20.0]

    def temperature() -> float:
        if math.isnan(degrees[0]):
            raise OSError("no such device")
        return degrees[0]

    told = settings(points={name: {**point, "rule": {**point["rule"], "keep": {**KEPT, "frames": 0}},
                                   "learned": {**point["learned"], "keep": {**KEPT, "frames": 0}}}
                            for name, point in settings()["points"].items()})  # fmt: skip
    adaptive = open_controller(told, temperature_c=temperature)
    seen = []
    for now in (20.0, 95.0, float("nan"), 20.0):
        degrees[0] = now
        seen += [adaptive.step(frame(200)) for _ in range(controller.SENSOR_EVERY)][:1]
    assert [one.variant for one in seen] == ["large", "small", "large", "large"]
    assert [one.by for one in seen] == ["learned", "learned", "rule", "learned"]
    assert seen[2].why == "sensor temperature_c failed: no such device"


def under(root: Path, **files: str) -> Path:
    """Write files of sysfs, double underscores for slashes."""
    for name, text in files.items():
        path = root / "sys" / name.replace("__", "/").replace("soc_", "soc:")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root


def test_the_system_tells_its_temperature_its_throttling_and_its_battery(tmp_path: Path) -> None:
    zone, battery, firmware = (
        "class__thermal__thermal_zone{}__{}", "class__power_supply__BAT0__{}",
        "devices__platform__soc__soc_firmware__get_throttled",
    )  # fmt: skip
    under(
        tmp_path,
        **{zone.format(0, "type"): "cpu-thermal", zone.format(0, "temp"): "61300"},
        **{zone.format(1, "type"): "PMIC-Die", zone.format(1, "temp"): "100000"},
        **{zone.format(2, "type"): "gpu-thermal", zone.format(2, "temp"): "-256000"},
        **{
            battery.format("type"): "Battery",
            battery.format("status"): "Discharging",
            battery.format("capacity"): "15",
        },
        **{firmware: "50000"},  # of the past alone
    )
    sensors = controller.system_sensors(str(tmp_path))
    assert {name: read() for name, read in sensors.items()} == {"temperature_c": 61.3, "throttled": 0, "battery": 0.15}
    under(tmp_path, **{firmware: "50005", battery.format("status"): "Charging"})
    assert (sensors["throttled"](), sensors["battery"]()) == (1, 1)
    under(tmp_path, **{zone.format(0, "temp"): "much"})
    with pytest.raises(ValueError, match="much"):  # which leaves the choice to the rule
        sensors["temperature_c"]()


def test_a_system_that_tells_nothing_has_no_sensors(tmp_path: Path) -> None:
    assert controller.system_sensors(str(tmp_path)) == {}


def test_a_sensor_without_limits_is_refused() -> None:
    with pytest.raises(ValueError, match="no limits for humidity; known: temperature_c, throttled, battery"):
        open_controller(settings(), humidity=lambda: 0.5)


@pytest.mark.parametrize(
    "change",
    [{"mean": [0.0]}, {"first": net(3, [0.0, 1.0])}, {"hysteresis": "much"}, {"low": None}],
    ids=["inputs", "shapes", "text", "nothing"],
)
def test_a_learned_policy_that_cannot_be_read_leaves_the_choice_to_the_rule(change: dict[str, Any]) -> None:
    adaptive = open_controller(settings(learned={**settings()["learned"], **change}))
    found = adaptive.step(frame(200))
    assert found.by == "rule"
    assert found.why.startswith("the learned policy cannot be read: ")
    assert found.label == "light"


def test_inputs_outside_of_what_training_saw_leave_the_choice_to_the_rule() -> None:
    learned = copy.deepcopy(settings()["learned"])
    learned["high"][0] = 0.5
    adaptive = open_controller(settings(learned=learned))
    assert adaptive.step(frame(30)).by == "learned"
    for _ in range(20):
        found = adaptive.step(frame(250))
    assert found.by == "rule"
    assert found.why == "brightness is outside of what the learned policy was trained on"


def test_under_a_deadline_a_slow_board_gets_the_network_that_fits() -> None:
    policy = Policy(settings(learned=None, deadline_ms=2.5))
    seen = Frame((0.5, 5.0, 4.0, 4.0), np.zeros((4, 4), np.float32))
    assert policy.first(seen) == 0
    assert policy.second(0, 1, 0.1, 1.0) == 0  # the other would come too late
    policy.points["normal"].rule.start = 1
    assert policy.first(seen) == 1
    for _ in range(20):
        policy.done([1], [1], [0.1], 6.0)  # three times as slow as measured
    assert policy.first(seen) == 0


def test_a_rule_that_names_no_network_is_refused() -> None:
    broken = settings(learned=None)
    broken["points"]["normal"]["rule"]["escalate_to"] = 2
    with pytest.raises(ValueError, match="names variant 2 of 2"):
        Policy(broken)
