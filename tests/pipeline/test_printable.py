"""Text from elsewhere is shown, never obeyed."""

from __future__ import annotations

import io
import logging

import pytest
from rich.console import Console

from pipeline.cli.app import PrintableFormatter
from pipeline.cli.console import PlainConsole
from pipeline.cli.views.live import LiveView
from pipeline.cli.views.tuning_progress import RunLines
from pipeline.errors import DeviceError, PipelineError
from pipeline.events import Stage, Waiting
from pipeline.printable import printable, printable_lines

STEERING = (
    "\x1b[31m", "\x1b]8;;http://x\x07", "\x9b2J", "\x00", "\x07", "\x08", "\x7f", "\x85", "\u202e", "\u2066", "\u200b",
    "\u200f", "\u2028", "\ufeff", "\ud800", "\U000e0041", "\xad",
)  # fmt: skip


@pytest.mark.parametrize("sign", STEERING)
def test_what_would_steer_a_terminal_is_written_out(sign: str) -> None:
    for shown in (printable(f"a{sign}b"), printable_lines(f"a{sign}b\nc"), str(DeviceError(f"a{sign}b"))):
        assert all(character.isprintable() or character == "\n" for character in shown)
        assert shown[0] == "a"
        assert "b" in shown
        assert "\\" in shown


def test_what_reads_as_text_stays_as_it_is() -> None:
    text = "größer als 5 °C: 日本語, עברית, 🙂 [red] `x` | <b>"
    assert printable(text) == printable_lines(text) == str(PipelineError(text)) == text


def test_a_text_of_megabytes_is_cut() -> None:
    assert len(printable("x" * 10**7)) == 1000
    assert len(str(DeviceError("\x1b" * 10**7))) < 50_000


def test_a_log_record_of_any_library_is_shown_and_keeps_its_lines() -> None:
    record = logging.LogRecord("paramiko", logging.ERROR, "", 0, "banner %s\nnext", ("\x1b[2J",), None)
    assert PrintableFormatter("%(message)s").format(record) == "banner \\x1b[2J\nnext"


MARKUP = ("[red]no[/]", "[/red]", "[/]", "[bold", ":bomb:", "[link=http://x]y[/link]")


@pytest.mark.parametrize("words", MARKUP)
def test_what_reads_as_markup_is_printed_as_it_stands(words: str) -> None:
    file = io.StringIO()
    console = PlainConsole(file=file, markup=False, emoji=False, highlight=False, width=200)
    console.print(words)
    with console.status(words):
        pass
    assert words in file.getvalue()


@pytest.mark.parametrize("words", MARKUP)
def test_a_board_s_holder_may_be_called_anything(words: str) -> None:
    view, lines = LiveView(), RunLines(total=1)
    view.listen(Stage("search", 3))
    for listener in (view, lines):
        listener.listen(Waiting(words))
    file = io.StringIO()
    console = Console(file=file, width=300, color_system=None)
    console.print(view)
    console.print(lines._status.renderable)
    assert file.getvalue().count(f"held by {words}") == 2
