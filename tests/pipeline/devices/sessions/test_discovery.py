"""The answer to the first look at a board: believed only where it is one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.devices.sessions import discovery
from pipeline.errors import AgentError, DeviceError, DiskFullError
from pipeline.records import Device
from tests.hostile_answers import NASTY, encoded, spoilt, steers

PI = Device(name="pi", kind="linux")
HONEST: dict[str, Any] = {
    "python": "/usr/bin/python3", "folder": "/home/ann/.cache/pipeline-agent", "sha256": "a" * 64, "problem": None,
    "errno": 0, "free": 10**10,
}  # fmt: skip


def parsed(found: object) -> discovery.Board:
    return discovery.parse(PI, 0, f"welcome\n{discovery.MARK}{encoded(found).decode('utf-8', 'replace')}\n", "")


def test_an_honest_answer_is_believed() -> None:
    board = parsed(HONEST)
    assert (board.python, board.agent_sha256, board.free_bytes) == ("/usr/bin/python3", "a" * 64, 10**10)
    assert parsed({**HONEST, "sha256": None}).agent_sha256 is None


@pytest.mark.parametrize(
    "change",
    [
        {"python": "python3"}, {"python": ""}, {"python": "/bin/python\nreboot"}, {"folder": "~/x"}, {"folder": 7},
        {"folder": "/x" * 4000}, {"sha256": "short"}, {"sha256": 7}, {"free": -2}, {"free": "much"}, {"free": 1e308},
        {"errno": "ENOSPC"}, {"problem": ["no"]},
    ],
    ids=str,
)  # fmt: skip
def test_an_answer_that_cannot_be_used_says_where_it_is_wrong(change: dict[str, Any]) -> None:
    with pytest.raises(
        AgentError, match=f"pi: the board's answer to the first look makes no sense: {next(iter(change))}"
    ):
        parsed({**HONEST, **change})


def test_a_folder_that_cannot_be_made_says_why_fit_to_be_shown() -> None:
    with pytest.raises(DiskFullError) as caught:
        parsed({**HONEST, "problem": "\x1b[31mNo space", "errno": 28})
    assert "\\x1b[31mNo space" in str(caught.value)


@settings(max_examples=100, deadline=None, database=None, derandomize=True)
@given(st.builds(lambda: json.loads(json.dumps(HONEST))).flatmap(spoilt) | NASTY)
def test_whatever_is_answered_is_a_board_or_an_error_of_ours(found: object) -> None:
    try:
        said = str(parsed(found).free_bytes)
    except DeviceError as error:
        said = str(error)
    assert not steers(said)


@pytest.mark.parametrize("said", ["", "df: no such file", "a b c", "a 1 2 x", "a 1 2 " + "9" * 4000])
def test_a_df_that_says_nothing_of_use_leaves_nothing_free(said: str) -> None:
    assert discovery.free_bytes(said) == 0
