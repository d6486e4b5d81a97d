"""What the documents show beside runs: each command as it stands there, and what is done from Python."""

from __future__ import annotations

import getpass
import os
import shutil
from collections.abc import Callable

import pytest

from pipeline.federated.flower import FLOWER, VARIABLE
from pipeline.run.sample_file import sample_of
from tests import forked
from tests.certificates import write_certificate
from tests.command_line import PATIENCE_S, Desk, Done, finished, read_until
from tests.conftest import Sshd, free_port
from tests.deployments import inventory
from tests.shown_commands import ROOT, Project, different, shown, typed, whole

TRUST = "pipeline devices trust pi4"
ADAPT = "pipeline adapt"
"""Needs a run on more images than the documents' folder has."""
FEDERATED = ("pipeline federate ", "pipeline plan latest --policy federated")
"""Need a server and a site side by side."""
IN_ORDER = (
    "pipeline keys", "pipeline sign", "pipeline verify", "pipeline deploy", "pipeline devices trust pi4 --key",
    "pipeline devices trust pi4 --forget-key",
)  # fmt: skip
"""Commands that need the ones before them: docs/deploying.md shows them in their order."""
FINDINGS = ("pipeline devices check", "pipeline devices doctor")
"""Commands that end with 1 where they find fault with this machine."""
LONGER = (
    "pipeline apply",
    "pipeline compare",
    "pipeline devices bench-ops",
    "pipeline devices calibrate",
    "pipeline devices doctor",
    "pipeline plan",
    "pipeline pull",
    "pipeline quantize",
)
"""What is left out where only the quick tests run."""


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    "line",
    [
        pytest.param(line, id=line, marks=[pytest.mark.slow] if line.startswith(LONGER) else [])
        for line in different({*whole("pipeline ")} - {TRUST})
        if not line.startswith((*IN_ORDER, *FEDERATED, ADAPT, "pipeline run ", "pipeline tune "))
    ],
)
def test_a_command_that_is_shown_runs(run_shown: Callable[[str], Done], line: str) -> None:
    done = run_shown(line)
    assert done.code == 0 or (done.code == 1 and line.startswith(FINDINGS)), done.err + done.out
    assert "error: " not in done.err


@pytest.mark.slow
def test_a_bundle_is_signed_deployed_and_undone_as_is_shown(desk: Desk, project: Project) -> None:
    page = ROOT / "docs/deploying.md"
    commands = [one.line for one in shown(page) if one.in_block]
    verbs = {one: [*one.split()[: 3 if one.startswith("pipeline deploy ") else 2]] for one in whole("pipeline ")}
    run_here = [verbs[one] for one in commands]
    assert [one for one, verb in verbs.items() if one.startswith(IN_ORDER) and verb not in run_here] == []
    desk.write("inventory.yaml", inventory(desk.folder, "pi4"))
    for line in commands:
        desk.done(*typed(line, project.ids))
    picture = desk.folder / "photos/cats/0.png"
    code, out, err = forked.run_script(
        desk.folder / "answer.py", [str(desk.folder / "board/current"), str(picture)], desk.folder, dict(os.environ),
        PATIENCE_S,
    )  # fmt: skip
    assert code == 0, err
    assert out.split()[0] in ("cats", "dogs")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_run_is_adapted_and_watches_as_is_shown(desk: Desk) -> None:
    brief = (desk.folder / "brief.yaml").read_text().replace("my_net.py:make", "net.py:Net")
    desk.write("brief_digits.yaml", brief.replace("epochs: 0.2", "epochs: 3"))
    desk.done("run", "--config", "brief_digits.yaml", "--data", "digits", "--trials", "2")
    picture = sample_of(max(desk.runs.iterdir()))
    for number, line in enumerate(different(whole(ADAPT))):
        words = [*typed(line, {"finished": ["latest"]}), "--quick"]
        desk.done(*words, *([] if "--output" in words else ["--output", f"adaptive-{number}"]))
    code, out, err = forked.run_script(
        desk.folder / "watch.py", [str(desk.folder / "my-adaptive"), str(picture), str(picture)], desk.folder,
        dict(os.environ), PATIENCE_S,
    )  # fmt: skip
    assert code == 0, err
    assert len(out.splitlines()) == 2


@pytest.mark.slow
def test_a_site_takes_part_in_a_federation_as_is_shown(
    desk: Desk, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(FLOWER.python()))
    commands = [one.line for one in shown(ROOT / "docs/federated.md") if one.in_block and one.line[:4] != "pip "]
    verbs = [one.split()[:3] for one in commands]
    assert [one for one in whole("pipeline federate ") if one.split()[:3] not in verbs] == []
    write_certificate(desk.folder)
    serve, join, *after = (typed(line, project.ids) for line in commands)
    address = f"localhost:{free_port()}"
    server = desk.start(*serve, "--address", address, "--rounds", "1", "--sites", "1", "--updates", "1")
    read_until(server, "waiting for the others")
    desk.done(*join, "--server", address)
    assert finished(server).code == 0
    for words in after:
        desk.done(*words)


@pytest.mark.sshd
def test_the_host_key_of_a_board_is_trusted_as_is_shown(desk: Desk, project: Project, sshd: Sshd) -> None:
    assert TRUST in whole("pipeline ")
    board = f"{{kind: linux, host: '{getpass.getuser()}@127.0.0.1:{sshd.port}'}}"
    desk.write("inventory.yaml", f"version: 1\ndevices:\n  pi4: {board}\n")
    assert sshd.fingerprint in desk.done(*typed(TRUST, project.ids)).err


@pytest.mark.slow
def test_what_is_shown_from_python_runs(desk: Desk) -> None:
    shutil.rmtree(desk.folder / "my-model")
    text = (desk.folder / "from_python.py").read_text()
    assert "pipeline.prune(\n" in text
    desk.write(
        "from_python.py", text.replace("pipeline.prune(\n", "pipeline.prune(config='brief_pictures.yaml', trials=2,\n")
    )
    code, _, err = forked.run_script(desk.folder / "from_python.py", [], desk.folder, dict(os.environ), PATIENCE_S)
    assert code == 0, err
