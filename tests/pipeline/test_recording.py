from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.errors import InventoryError, StoreError
from pipeline.export.skeleton import skeleton
from pipeline.recording import (
    Recorder,
    as_recorded,
    header_of,
    on_this_machine,
    read_answers,
    read_header,
    structure_of,
)
from pipeline.records import Device, MeasureSettings, SshAddress
from tests.pipeline.test_bench import relu
from tests.recordings import dense

BOARD = Device(
    name="pi", kind="raspberry-pi-4", ssh=SshAddress(host="192.0.2.7", user="somebody"), agent_dir="/srv/secret",
    channel_step=8, measure=MeasureSettings(min_s=2.0), tags=("lab",),
)  # fmt: skip


def recorded(path: Path, answers: int = 3) -> Path:
    recorder = Recorder()
    recorder.heard("hello", {}, {"board": "Pi"})
    recorder.begin(path, header_of(BOARD, {"seed": 4}, {"pipeline": "0"}))
    for number in range(answers - 1):
        recorder.heard("telemetry", {}, {"temperature_c": 40.0 + number})
    recorder.close()
    return path


def test_answers_come_back_in_order_those_before_the_file_was_known_first(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = list(read_answers(recorded(tmp_path / "r.gz")))
    assert [(a.verb, dict(a.result)) for a in found] == [
        ("hello", {"board": "Pi"}), ("telemetry", {"temperature_c": 40.0}), ("telemetry", {"temperature_c": 41.0}),
    ]  # fmt: skip
    assert caplog.text == ""


def test_it_is_gzip_of_json_lines_that_any_tool_reads(tmp_path: Path) -> None:
    lines = gzip.decompress(recorded(tmp_path / "r.gz").read_bytes()).decode().splitlines()
    assert [json.loads(line).get("verb") for line in lines] == [None, "hello", "telemetry", "telemetry"]


def test_where_the_board_is_and_how_to_log_in_is_not_in_it(tmp_path: Path) -> None:
    path = recorded(tmp_path / "r.gz")
    recorder = Recorder()
    recorder.heard("hold", {"owner": "somebody@desk"}, {"applied": {}, "refused": {}})
    recorder.heard("hello", {}, {"user": "somebody", "groups": ["somebody"], "board": "Pi"})
    recorder.begin(path, header_of(BOARD, {}, {}))
    recorder.close()
    text = gzip.decompress(path.read_bytes()).decode()
    assert "applied" in text
    for secret in ("192.0.2.7", "somebody", "/srv/secret"):
        assert secret not in text


def test_a_replayed_device_has_the_recorded_boards_settings_under_its_own_name(tmp_path: Path) -> None:
    path = recorded(tmp_path / "r.gz")
    device = as_recorded(Device(name="tape", kind="replay", recording=str(path)))
    assert (device.name, device.kind, device.recording, device.ssh) == ("tape", "replay", str(path), None)
    assert (device.channel_step, device.measure.min_s) == (8, 2.0)
    assert not on_this_machine(device), "as on the board, though it is played back here"
    assert as_recorded(BOARD) is BOARD


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_a_broken_last_line_is_left_out_with_a_warning(
    tmp_path: Path, cut: int, caplog: pytest.LogCaptureFixture
) -> None:
    path = recorded(tmp_path / "r.gz")
    path.write_bytes(path.read_bytes()[:-cut])
    assert len(list(read_answers(path))) == 2
    assert "is broken after line 3" in caplog.text


def test_a_recording_that_was_broken_off_is_gone_on_with(tmp_path: Path) -> None:
    path = recorded(tmp_path / "r.gz")
    path.write_bytes(path.read_bytes()[:-10])
    recorder = Recorder()
    recorder.heard("hello", {}, {"board": "Pi again"})
    recorder.begin(path, header_of(replace(BOARD, name="other"), {}, {}))
    recorder.close()
    assert [a.result.get("board") for a in read_answers(path)] == ["Pi", None, "Pi again"]
    assert read_header(path).device.name == "pi"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"no gzip at all", "not gzip"),
        (gzip.compress(b"no json\n", mtime=0), "is no recording"),
        (gzip.compress(b'{"recording": 99}\n', mtime=0), "expected format 1, found 99"),
        (gzip.compress(b'{"recording": 1, "device": {}}\n', mtime=0), "header of the recording"),
    ],
)
def test_what_is_no_recording_says_so(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "r.gz"
    path.write_bytes(content)
    with pytest.raises(InventoryError, match=said):
        read_header(path)


def test_what_cannot_be_written_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"cannot be written: .*; make room"):
        Recorder().begin(tmp_path / "nowhere" / "r.gz", header_of(BOARD, {}, {}))


def test_a_networks_structure_does_not_depend_on_its_weights() -> None:
    one, other, wider = dense(seed=1), dense(seed=2), dense(seed=1, width=40)
    assert one != other
    assert structure_of("a.onnx", one) == structure_of("b.onnx", other) == structure_of("c.skeleton", skeleton(one))
    assert structure_of("a.onnx", one) != structure_of("d.onnx", wider)
    assert structure_of("images.npy", b"") is None
    assert structure_of("relu.onnx", relu()) is not None
