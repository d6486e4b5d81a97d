"""Devices' calibrations between runs: where they lie, what becomes of damaged files, and when they hold."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.devices.stored_calibrations import (
    known_calibration,
    path_of,
    read_calibration,
    store_calibration,
)
from pipeline.errors import OutputError, StoreError
from pipeline.measurement.calibration import Conditions
from pipeline.records import Device, MeasureSettings, SshAddress
from tests.examples import calibration, device_facts

PI = Device(name="pi4", kind="raspberry-pi-4", ssh=SshAddress(host="pi4.lan"))
NOW = Conditions.of(PI, device_facts(), MeasureSettings())


@pytest.fixture
def data() -> Path:
    return Path(os.environ["XDG_DATA_HOME"])


def test_what_was_stored_is_found_again_and_nothing_lies_beside_it(data: Path) -> None:
    path = store_calibration(PI, calibration())

    assert read_calibration(PI) == calibration()
    assert list(data.rglob("*.*")) == [path]


def test_a_newer_calibration_takes_the_older_one_s_place() -> None:
    store_calibration(PI, calibration())
    store_calibration(PI, calibration(model="resnet56"))

    found = read_calibration(PI)
    assert found is not None
    assert found.model == "resnet56"


def test_devices_of_one_name_at_two_addresses_have_a_calibration_each() -> None:
    elsewhere = replace(PI, ssh=SshAddress(host="pi4.elsewhere"))
    store_calibration(PI, calibration())

    assert read_calibration(elsewhere) is None
    assert path_of(PI).parent == path_of(elsewhere).parent


def test_a_recording_has_no_calibration() -> None:
    store_calibration(PI, calibration())

    assert read_calibration(replace(PI, recording="recording.jsonl.gz")) is None


TEXT = json.dumps({"format": 1, "calibration": {"device": "pi4"}})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is damaged"),
        ("{", "is damaged"),
        ("\xff\xfe", "is damaged"),
        ("[1, 2]", "none of this program's"),
        ('{"devices": {}}', "none of this program's"),
        ('{"format": 2, "calibration": {}}', "its format is 2, this version reads 1"),
        (TEXT, "is damaged: kind: Field required"),
        ("[" * 5000, "is damaged"),
        ('{"format": 1, "calibration": Infinity}', "no number that can be computed with"),
    ],
)
def test_a_damaged_file_is_no_calibration_and_says_what_replaces_it(text: str, words: str) -> None:
    path = store_calibration(PI, calibration())
    path.write_bytes(text.encode("latin-1"))

    with pytest.raises(StoreError, match=words) as refused:
        read_calibration(PI)
    assert str(refused.value).endswith("`pipeline devices calibrate pi4` replaces it")
    store_calibration(PI, calibration())
    assert read_calibration(PI) == calibration()


def test_what_cannot_be_true_is_damaged() -> None:
    path = store_calibration(PI, calibration())
    whole = json.loads(path.read_text())
    for where, value in (("spread", {"total": 1e300, "within": 0, "freedom": 4}), ("checked", []), ("invalid", -1)):
        path.write_text(json.dumps({**whole, "calibration": {**whole["calibration"], where: value}}))
        with pytest.raises(StoreError, match=f"is damaged: {where}"):
            read_calibration(PI)


def test_a_file_of_another_device_is_none_of_this_one_s() -> None:
    store_calibration(PI, calibration(device="pi5"))

    with pytest.raises(StoreError, match="no calibration of pi4, but of pi5"):
        read_calibration(PI)


def test_a_pipe_in_its_place_is_not_waited_for() -> None:
    path_of(PI).parent.mkdir(parents=True)
    os.mkfifo(path_of(PI))

    with pytest.raises(StoreError, match="cannot be read: it is a pipe, not a file"):
        read_calibration(PI)


def test_a_folder_that_cannot_be_made_is_named_with_what_to_do(data: Path) -> None:
    data.write_text("a file")

    with pytest.raises(OutputError, match=r"cannot be written: .*; make room there, or set XDG_DATA_HOME"):
        store_calibration(PI, calibration())


def test_what_would_steer_a_terminal_is_written_out() -> None:
    store_calibration(PI, calibration(model="\x1b[2J"))

    found = read_calibration(PI)
    assert found is not None
    assert found.model == "\\x1b[2J"


def test_only_a_calibration_of_the_device_as_it_is_now_is_known() -> None:
    assert known_calibration(PI, NOW).never
    store_calibration(PI, calibration(conditions=NOW))
    assert known_calibration(PI, NOW).calibration == calibration(conditions=NOW)

    updated = known_calibration(PI, replace(NOW, runtime="onnxruntime 1.23.0"))
    assert (updated.calibration, updated.never) == (None, False)
    words = "the calibration of 2026-11-30 is of another runtime: onnxruntime 1.22.0, now onnxruntime 1.23.0"
    assert updated.why == words


def test_a_damaged_calibration_is_not_known_and_why() -> None:
    store_calibration(PI, calibration()).write_text("{")

    known = known_calibration(PI, NOW)
    assert (known.calibration, known.never) == (None, False)
    assert "is damaged" in known.why
