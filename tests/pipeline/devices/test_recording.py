from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline import serialization
from pipeline.devices.recording import (
    Recorder,
    as_recorded,
    header_of,
    on_this_machine,
    read_answers,
    read_header,
    structure_of,
)
from pipeline.errors import InventoryError, StoreError
from pipeline.export.onnx.skeleton import skeleton
from pipeline.export.skeleton_container import pack
from pipeline.records import Device, MeasureSettings, SshAddress
from tests.pipeline.evaluation.test_device_bench import relu
from tests.recordings import dense

BOARD = Device(
    name="pi", kind="raspberry-pi-4", ssh=SshAddress(host="192.0.2.7", user="somebody"), agent_dir="/srv/secret",
    channel_step=8, measure=MeasureSettings(min_s=2.0), tags=("lab",),
    plugins="/home/ann/plugins",
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
    for secret in ("192.0.2.7", "somebody", "/srv/secret", "/home/ann"):
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
    assert structure_of("a.onnx", one, "onnx") == structure_of("b.onnx", other, "onnx")
    assert structure_of("a.onnx", one, "onnx") == structure_of("c.skeleton", skeleton(one), "tflite")
    assert structure_of("a.onnx", one, "onnx") != structure_of("d.onnx", wider, "onnx")
    assert structure_of("images.npy", b"", "onnx") is None
    assert structure_of("a.onnx", one, "tflite") is None
    assert structure_of("relu.onnx", relu(), "onnx") is not None
    whole = [pack(bytes([value]) * 100, []) for value in (1, 2)]
    assert structure_of("e.skeleton", whole[0], "onnx") != structure_of("f.skeleton", whole[1], "onnx")


# ---------------------------------------------------------------- not trusted


def written(path: Path, *lines: bytes) -> Path:
    path.write_bytes(b"".join(gzip.compress(line) for line in lines))
    return path


def header_line(**changes: object) -> bytes:
    device = serialization.dump(Device(name="pi", kind="linux"))
    return json.dumps(
        {"recording": 1, "device": device, "shared": False, "about": {}, "versions": {}, **changes}
    ).encode()


ANSWER: dict[str, object] = {"verb": "hello", "arguments": {}, "result": {}, "structures": {}}


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([b"x" * 70_000_000], "line 1 inflates to more than"),
        ([header_line(), b"[" * 5000], "no recording"),
        ([header_line(), b'{"a":' + b"9" * 5000 + b"}"], "no recording"),
        ([header_line(), b"[1, 2]"], "no object"),
        ([header_line(), *[b"{" + b"[]," * 300_000 + b"}"] * 4], "no recording"),
        ([header_line(), json.dumps({**ANSWER, "arguments": [1]}).encode()], "line 2 .* arguments"),
        ([header_line(), json.dumps({**ANSWER, "verb": 7}).encode()], "line 2 .* verb"),
        ([header_line(), json.dumps({**ANSWER, "result": "fast"}).encode()], "line 2 .* result"),
        ([header_line(), json.dumps({**ANSWER, "structures": {"a": 1}}).encode()], "line 2 .* structures"),
        ([header_line(), json.dumps({**ANSWER, "result": None}).encode()], "line 2 .* neither a result nor a failure"),
        ([header_line(), json.dumps({**ANSWER, "failure": {"kind": 1}}).encode()], "line 2 .* failure"),
        ([header_line(about=[1])], "header .* about"),
        ([header_line(versions={"torch": 2})], "header .* versions"),
        ([header_line(device={"name": 3})], "header .* damaged"),
        ([header_line(device=None)], "header .* device"),
        ([header_line(shared="no")], "header .* shared"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_recording_that_is_spoilt_or_inflated_says_where(tmp_path: Path, lines: list[bytes], said: str) -> None:
    path = written(tmp_path / "r.gz", *lines)
    with pytest.raises(InventoryError, match=said):
        [read_header(path), *read_answers(path)]


def test_many_lists_of_nothing_in_a_small_file_are_no_recording(tmp_path: Path) -> None:
    empty = json.dumps({**ANSWER, "result": {"a": [[]] * 300_000}}).encode()
    with pytest.raises(InventoryError, match="inflates to more than a file of its size can hold"):
        list(read_answers(written(tmp_path / "r.gz", header_line(), *[empty] * 4)))


def test_what_a_recording_says_of_itself_is_fit_to_be_shown(tmp_path: Path) -> None:
    device = {**serialization.dump(Device(name="pi", kind="linux")), "runtime": "\x1b[31monnx", "tags": ["\u202e"]}
    header = read_header(written(tmp_path / "r.gz", header_line(device=device, about={"target": "\x9b2J"})))

    assert (header.device.runtime, header.device.tags) == ("\\x1b[31monnx", ("\\u202e",))
    assert header.about == {"target": "\\x9b2J"}
