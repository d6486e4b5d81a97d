"""Signals before anything is measured, and outputs that nobody reads: how soon, how quietly, with what status."""

from __future__ import annotations

import re
import select
import shlex
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command_line import COMMAND, PATIENCE_S, Desk, Done, Started, finished, read_until

MOMENTS = [(signal.SIGTERM, 0.0), (signal.SIGINT, 0.4), (signal.SIGHUP, 1.5), (signal.SIGTERM, 0.8)]
"""Signals, and how long after its beginning each comes: all while a run imports its libraries."""


def ended(process: Started, number: int) -> Done:
    """Send a signal; the process has to end, though what it is at would take hours."""
    process.send_signal(number)
    done = finished(process)
    assert "Traceback" not in done.err + done.out
    return done


@pytest.fixture
def refuse(desk: Desk) -> Desk:
    """A folder in which no run may be left."""
    desk.write("quick.py", "from net import Net\n")
    return desk


@pytest.mark.parametrize(("number", "after_s"), MOMENTS)
def test_a_signal_while_libraries_are_imported_ends_a_run_at_once(refuse: Desk, number: int, after_s: float) -> None:
    here = "import sys; from pipeline.cli import main; print('here', file=sys.stderr, flush=True); main()"
    run = refuse.start_cold("run", "--config", "run.yaml", command=(COMMAND[0], "-c", here))
    read_until(run, "here")  # before that it is Python that starts, not the program
    time.sleep(after_s)
    assert ended(run, number).code in (128 + number, -number)  # the latter: the handler was not there yet
    assert not refuse.runs.exists()


BUSY = """
import hashlib
import sys
import time

from net import Net as Whole


def here():
    print("the slow part is here", file=sys.stderr, flush=True)


def wait():
    here()
    time.sleep(10_000)


"""
SLOW = {
    "import": ("model", "wait()\n"),
    "import that makes another error of it": (
        "model", "try:\n    wait()\nexcept BaseException as error:\n    raise ImportError('cut off') from error\n",
    ),
    "build": ("model", "def Net(num_classes):\n    wait()\n"),
    "trace": (
        "model",
        "class Net(Whole):\n    def forward(self, x):\n        wait()\n        return super().forward(x)\n",
    ),
    "data": ("data", "def Net(**_):\n    wait()\n"),
    "computed in C": ("model", "here()\nhashlib.pbkdf2_hmac('sha512', b'in one call', b'of hours', 2**31 - 1)\n"),
    "whatever is raised": (
        "model", "def Net(num_classes):\n    while True:\n        try:\n            wait()\n"
        "        except BaseException:\n            pass\n",
    ),
}  # fmt: skip


@pytest.mark.parametrize("where", SLOW)
def test_a_signal_while_a_run_is_made_ready_ends_it_at_once(refuse: Desk, where: str) -> None:
    setting, text = SLOW[where]
    refuse.write("slow.py", BUSY + text)
    refuse.settings(**({"model": "slow.py:Net"} if setting == "model" else {"data": "dataset:slow.py:Net"}))
    run = refuse.start("run", "--config", "run.yaml")
    read_until(run, "the slow part is here")
    done = ended(run, signal.SIGTERM)
    assert done.code == 128 + signal.SIGTERM
    assert done.err.splitlines()[-1:] == ["stopped before anything was measured"]
    assert not refuse.runs.exists()


def test_a_signal_while_a_board_is_connected_ends_a_run_at_once(refuse: Desk) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and says nothing
        port = silent.getsockname()[1]
        refuse.write(
            "inventory.yaml",
            f"devices: {{pi: {{kind: linux, host: 'pi@127.0.0.1:{port}', ssh: {{connect_timeout_s: 10000}}}}}}\n",
        )
        run = refuse.start("run", "--config", "run.yaml", "--device", "pi")
        read_until(run, "Connect to pi")
        assert select.select([silent], [], [], PATIENCE_S)[0]
        with silent.accept()[0]:
            assert ended(run, signal.SIGTERM).code == 128 + signal.SIGTERM
    assert not refuse.runs.exists()


def test_a_signal_that_is_ignored_from_the_start_stays_ignored(refuse: Desk) -> None:
    run = refuse.start_cold("devices", "list", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    run.send_signal(signal.SIGHUP)
    assert finished(run).code == 0


# ---------------------------------------------------------------- outputs

HOW = {
    "full": (">/dev/full", 1, "error: standard output cannot be written: No space left on device"),
    "closed": (">&-", 1, "error: standard output cannot be written: it is closed"),
    "no reader": ("| true", 128 + signal.SIGPIPE, ""),
    "a reader of one line": ("| head -n 1 >/dev/null", None, ""),
    "no progress": (">/dev/null 2>&-", 0, ""),
    "full progress": (">/dev/null 2>/dev/full", 0, ""),
    "neither": (">&- 2>&-", 1, ""),
    "no input": ("<&- >/dev/null", 0, ""),
}
VERBS = (
    "--help", "--version", "init new --force", "devices list", "devices check local", "runs list", "runs show latest",
    "runs show latest --groups", "pull latest --output bundle", "compare latest", "profile model.onnx",
    "run --resume latest",
)  # fmt: skip
QUICK = ("devices list", "runs show latest")
COMMON = ("full", "closed", "no reader", "no progress")
"""What the other verbs are tried with, one each, in turns."""


def shell(desk: Desk, verb: str, how: str, folder: Path) -> Done:
    """Run a verb as a shell's line does; the verb's own status, though it stands before a pipe."""
    command = f"{shlex.join(COMMAND)} {verb}"
    line = f"{{ {command}; echo $? > '{folder}/status'; }} {how}"
    done = desk.start_shell(line)
    return Done(int((folder / "status").read_text()), done.out, done.err)


@pytest.fixture(scope="module")
def pulled(ran: Desk, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run's bundle; only to be read."""
    folder = tmp_path_factory.mktemp("pulled") / "bundle"
    ran.done("pull", "latest", "--output", str(folder))
    return folder


def outputs() -> Iterator[tuple[str, str, str]]:
    """Yield verbs, outputs, and text or JSON in turns: what writes is the same everywhere, and a start takes long.

    All outputs are tried with the quick verbs, and each of the common ones with some of the others.
    """
    for i, verb in enumerate(VERBS):
        for j, how in enumerate(HOW if verb in QUICK else COMMON[i % 4 :][:1]):
            yield verb, "--json" if (i + j) % 2 and not verb.startswith("-") else "", how


@pytest.mark.parametrize(
    ("verb", "json", "how"),
    [pytest.param(*each, marks=() if each[0] in QUICK else pytest.mark.slow) for each in outputs()],
)
def test_an_output_that_cannot_be_written_ends_a_verb_as_it_ends_the_shells_tools(
    ran: Desk, pulled: Path, verb: str, json: str, how: str, tmp_path: Path
) -> None:
    redirection, code, said = HOW[how]
    verb = verb.replace("new", str(tmp_path / "new")).replace("bundle", str(tmp_path / "bundle"))
    verb = verb.replace("model.onnx", str(pulled / "model.onnx"))
    done = shell(ran, f"{verb} {json}", redirection, tmp_path)
    if "--resume" in verb:  # of a finished run: an error, whatever the output is
        assert (done.code, "Traceback" in done.err) == (2, False)
        return
    assert code in (done.code, None)
    errors = [line for line in done.err.splitlines() if re.search("error|Error|Traceback|Broken", line)]
    assert errors == ([said] if said else [])
