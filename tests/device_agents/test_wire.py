import os

import pytest

from device_agents import protocol, wire
from device_agents.errors import AgentError


@pytest.fixture
def pipe():
    reader, writer = os.pipe()
    ends = [reader, writer]
    yield ends
    for end in ends:
        os.close(end)


def test_lines_come_out_whole_however_they_arrive(pipe):
    lines = wire.Lines(pipe[0])
    os.write(pipe[1], b"one\ntw")
    lines.fill()
    assert lines.pop() == b"one"
    assert lines.pop() is None

    os.write(pipe[1], b"o\n\n")
    lines.fill()
    assert [lines.pop(), lines.pop(), lines.pop()] == [b"two", b"", None]


def test_a_line_cut_off_by_the_end_is_dropped(pipe):
    lines = wire.Lines(pipe[0])
    os.write(pipe[1], b"half a li")
    os.close(pipe.pop())

    while lines.open:
        lines.fill()

    assert lines.pop() is None


def test_an_endless_line_comes_out_cut_once_and_the_next_one_whole(pipe):
    lines = wire.Lines(pipe[0], limit=1000)
    found = []
    for part in (b"x" * 800, b"x" * 800, b"x" * 3000, b"x\nnext\n"):
        os.write(pipe[1], part)
        lines.fill()
        line = lines.pop()
        while line is not None:
            found.append(line)
            line = lines.pop()

    assert found == [b"x" * 200, b"next"]


def test_an_answer_longer_than_a_line_may_be_is_refused_before_it_is_sent(pipe, monkeypatch):
    monkeypatch.setattr(protocol, "MAX_LINE_BYTES", 100)

    with pytest.raises(AgentError, match="fewer inferences") as caught:
        wire.send(pipe[1], {"ms": [1.0] * 100})

    assert caught.value.kind == protocol.BAD_REQUEST
