"""`devices calibrate`: the real command line, the real agent, and what is kept with the device."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from pipeline.measurement.calibration import FEWEST
from tests.command_line import Desk, finished, read_until

INVENTORY = """
version: 1
defaults:
  measure: {warmup_s: 0, min_s: 0.02, max_s: 0.2, block_s: 0.004, ci_rel: 0.9, processes: 2, max_background_cores: 64}
devices:
  local: {kind: local, power: null, agent: {dir: agent}}
"""


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A folder of one's own with a device that is measured as briefly as may be."""
    desk = Desk(tmp_path / "desk")
    desk.write("inventory.yaml", INVENTORY)
    return desk


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """Such a folder whose device was calibrated; what was printed lies in out.json and err."""
    desk = Desk(tmp_path_factory.mktemp("calibrated"))
    desk.write("inventory.yaml", INVENTORY)
    done = desk.done("devices", "calibrate", "local", "--measurements", "5", "--model", "net.py:Net", "--json")
    desk.write("out.json", done.out)
    desk.write("err", done.err)
    return desk


def printed(desk: Desk) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((desk.folder / "out.json").read_text())
    return found


def test_every_length_is_measured_in_one_process_and_over_several(calibrated: Desk) -> None:
    found = printed(calibrated)

    kinds = [(row["times"], row["processes"], row["widened"]) for row in found["checked"]]
    assert kinds == [(t, p, w) for p, w in ((1, False), (1, True), (2, False)) for t in (1.0, 3.0, 9.0)]
    assert all(2 <= row["measurements"] <= 5 and row["half_width"] > 0 for row in found["checked"])
    assert (found["device"], found["kind"], found["model"]) == ("local", "local", "net.py:Net")
    assert found["conditions"]["runtime"].startswith("onnxruntime ")
    assert (found["conditions"]["settings"]["min_s"], found["conditions"]["address"]) == (0.02, None)


def test_the_time_is_told_beforehand_and_how_much_is_left(calibrated: Desk) -> None:
    told = (calibrated.folder / "err").read_text()

    assert "5 measurements each, about " in told
    assert told.index("5 measurements each") < told.index("Measure the network against itself")


def test_it_is_kept_with_the_device_and_the_doctor_tells_of_it(calibrated: Desk) -> None:
    path = Path(printed(calibrated)["stored"])
    stored = json.loads(path.read_text())["calibration"]

    assert path.is_relative_to(calibrated.folder)
    assert stored == {k: v for k, v in printed(calibrated).items() if k not in ("between", "stored")}
    finding = doctored(calibrated)
    assert (finding["level"] in ("ok", "warn"), stored["date"][:10] in finding["detail"]) == (True, True)


def test_a_damaged_file_is_told_and_replaced(calibrated: Desk) -> None:
    path = Path(printed(calibrated)["stored"])
    whole = path.read_text()
    path.write_text(whole[: len(whole) // 2])
    try:
        finding = doctored(calibrated)
    finally:
        path.write_text(whole)

    assert finding["level"] == "warn"
    assert f"not used: local's calibration {path} is damaged" in finding["detail"]
    assert finding["fix"] == "`pipeline devices calibrate local`"


def doctored(desk: Desk) -> dict[str, Any]:
    findings: list[dict[str, Any]] = desk.do("devices", "doctor", "local", "--seconds", "1", "--json").json
    return next(finding for finding in findings if finding["name"] == "calibration")


def test_ctrl_c_ends_it_with_what_is_measured_by_then(desk: Desk) -> None:
    command = desk.start("devices", "calibrate", "local", "--measurements", "500", "--model", "net.py:Net")
    assert command.stderr is not None
    assert any(re.search(r"round ([3-9]|\d\d)", line) for line in command.stderr)
    command.send_signal(signal.SIGINT)
    done = finished(command)

    assert done.code == 130
    assert "from process to process the ratio differs by " in done.out
    kept = list(desk.folder.rglob("local.json"))
    assert f"not stored: {FEWEST} measurements of each length and kind are kept at least" in done.err or kept


def test_ctrl_c_before_there_are_two_of_each_says_that_it_stopped(desk: Desk) -> None:
    command = desk.start("devices", "calibrate", "local", "--model", "net.py:Net")
    read_until(command, "Measure the network against itself")
    command.send_signal(signal.SIGINT)
    done = finished(command)

    assert (done.code, done.out) == (130, "")
    assert "stopped as requested" in done.err


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        ("soon", "--budget: expected a time like 10m, 90s or 1h, found 'soon'"),
        ("0s", "--budget: expected a time like 10m, 90s or 1h, found '0s'"),
        ("2s", "give more time"),
    ],
)
def test_a_budget_that_is_none_or_too_short_is_refused_before_anything_is_measured(
    desk: Desk, budget: str, words: str
) -> None:
    done = desk.do("devices", "calibrate", "local", "--budget", budget, "--model", "net.py:Net")

    assert (done.code, words in done.error) == (2, True)
    assert "Measure the network" not in done.err


def test_a_recording_is_no_board_to_be_calibrated(desk: Desk) -> None:
    desk.write("inventory.yaml", "version: 1\ndevices:\n  tape: {kind: replay, recording: none.gz}\n")
    done = desk.do("devices", "calibrate", "tape")

    assert (done.code, "there is no board" in done.error) == (2, True)
