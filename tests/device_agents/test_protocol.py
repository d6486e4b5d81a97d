import pytest

from device_agents import protocol


def test_a_message_survives_the_wire():
    message = {"id": 7, "verb": "measure", "text": "µ\n"}

    line = protocol.encode(message)

    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert protocol.decode(line) == {**message, "v": protocol.VERSION}


@pytest.mark.parametrize("line", [b"", b"hello", b"[1]", b"{}", b"\xff\xfe", b"3", b'{"v"'])
def test_what_is_no_message_is_refused_and_quoted(line):
    with pytest.raises(protocol.ProtocolError, match="not a message: b"):
        protocol.decode(line)


def test_another_version_is_named():
    with pytest.raises(protocol.ProtocolError, match="version 1, expected 2"):
        protocol.decode(b'{"v": 1}')


def test_not_a_number_never_reaches_the_wire():
    with pytest.raises(ValueError, match="not JSON compliant"):
        protocol.encode({"power_w": float("nan")})
