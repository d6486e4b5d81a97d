"""What was there before, read back from a file that may be anything by now."""

import json
import os
import time

import pytest

from device_agents import modes
from device_agents.state import State

DEEP = b"[" * 100_000


@pytest.fixture
def state(tmp_path):
    return State(str(tmp_path), str(tmp_path / "board"))


def written(before: object, **more: object) -> bytes:
    return json.dumps({"boot": "", "before": before, **more}).encode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0\xff" * 500,
        DEEP,
        b"[]",
        b'{"before": {"nvpmodel": 1}}',
        written(None),
        written([["nvpmodel", -1]]),
        written({"nvpmodel": "1; reboot"}),
        written({"nvpmodel": True}),
        written({"governor": {"/etc/passwd": "performance"}}),
        written({"governor": {"../../sys/devices/system/cpu/x": "performance"}}),
        written({"governor": "somewhere/else"}),
        written({"jetson_clocks": {}}),
        written({"reboot": "now"}),
    ],
)
def test_what_makes_no_sense_is_not_put_back(state, tmp_path, content):
    (tmp_path / "modes.json").write_bytes(content)

    assert state.before() == {}
    assert modes.restore(state) == {}
    assert not state.there()


@pytest.mark.parametrize("what", ["a pipe", "a link", "a huge file", "somebody else's"])
def test_what_is_no_file_of_one_s_own_is_dropped_at_once(state, tmp_path, what):
    place = tmp_path / "modes.json"
    if what == "a pipe":
        os.mkfifo(place)
    elif what == "a link":
        (tmp_path / "elsewhere").write_bytes(written({"nvpmodel": 1}))
        place.symlink_to("elsewhere")
    elif what == "a huge file":
        with place.open("wb") as file:
            file.truncate(1 << 40)
    elif os.geteuid() == 0:
        place.write_bytes(written({"nvpmodel": 1}))
        os.chown(place, 65534, 65534)
    begin = time.monotonic()

    assert state.before() == {}
    assert modes.restore(state) == {}
    assert not state.there()
    assert time.monotonic() - begin < 1


def test_what_makes_sense_is_kept_beside_what_does_not(state, tmp_path):
    (tmp_path / "modes.json").write_bytes(written({"nvpmodel": 1, "governor": 7}))

    assert state.before() == {"nvpmodel": 1}
    state.remember("nvpmodel", 0)
    assert state.before() == {"nvpmodel": 1}
