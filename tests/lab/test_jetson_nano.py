"""A whole search on a Jetson Nano, as much of one as can be had here, over real SSH: killed, resumed, pulled.

Python 3.6 with the wheels of its JetPack, tegrastats at its true rate, and a TensorRT that is a stand-in for NVIDIA's.
"""

from __future__ import annotations

import getpass
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy.verify import verify_bundle
from tests.command_line import Desk, read_until
from tests.conftest import Sshd
from tests.device_agents.harness import find_python36
from tests.lab.conftest import SETTINGS
from tests.lab.fake_tegrastats import FakeTegrastats
from tests.lab.test_tegrastats import LINES
from tests.tensorrt_board import make_tensorrt_board

pytestmark = [pytest.mark.lab, pytest.mark.sshd, pytest.mark.slow, pytest.mark.timeout(900)]

MEASURE = (
    "{warmup_s: 0.01, min_s: 2, max_s: 4, block_s: 2, ci_rel: 0.5, idle_s: 0.5, processes: 1, max_background_cores: 64}"
)
"""Blocks of two seconds are the shortest whose power is independent: much of this test is waiting."""
REST_W = 1.266
"""What that line of tegrastats says of the whole module."""
LIMIT = 0.2
"""Of the float32 base model's: FP16 alone has 0.23."""
RUN = ("run", "--config", "run.yaml", "--device", "jetson-nano")


@pytest.fixture
def nano(tmp_path: Path, python36: str, start_sshd: Callable[..., Sshd]) -> Desk:
    """A user's folder with a Jetson Nano in its inventory, and settings for a whole run in little."""
    base = find_python36()
    assert base is not None  # the environment was made of it
    packages = next(Path(python36).parents[1].glob("lib/python3.6/site-packages"))
    board = make_tensorrt_board(tmp_path / "board", python=base, packages=str(packages))
    tegrastats = FakeTegrastats(tmp_path / "bin")
    tegrastats.plays(LINES["nano_jp4_user"], ("POM_5V_IN",))
    sshd = start_sshd()
    sshd.stop()
    sshd.environment |= {"PATH": f"{tegrastats.folder}:/usr/bin:/bin", "LD_LIBRARY_PATH": str(board.library)}
    sshd.start()
    desk = Desk(tmp_path / "desk")
    ssh = f"{{identity_file: {sshd.identity}, known_hosts: {sshd.known_hosts}}}"
    desk.write(
        "inventory.yaml",
        f"""
version: 1
devices:
  jetson-nano:
    kind: jetson-nano
    host: '{getpass.getuser()}@127.0.0.1:{sshd.port}'
    ssh: {ssh}
    agent: {{dir: {tmp_path / "agent"}, python: {board.python}}}
    power: {{backend: tegrastats, interval_ms: 20}}
    channel_step: 16
    measure: {MEASURE}
""",
    )
    desk.settings(**{**SETTINGS, "trials": "3", "target": f"energy={LIMIT}x", "precision": "auto"})
    return desk


def shown(desk: Desk) -> dict[str, Any]:
    run: dict[str, Any] = desk.done("runs", "show", "latest", "--json").json
    return run


def test_a_search_on_a_jetson_nano_is_killed_resumed_and_pulled(nano: Desk) -> None:
    started = nano.start(*RUN)
    read_until(started, "trial 1:")
    started.kill()
    started.communicate()
    before = shown(nano)
    assert before["status"] == "interrupted"

    done = nano.done("run", "--resume", "latest")
    run = shown(nano)
    assert run["status"] == "finished"
    assert run["trials"][: len(before["trials"])] == before["trials"]
    assert [trial["failure"] for trial in run["trials"]] == [None] * 3
    assert run["facts"]["python"].startswith("3.6.")
    assert (run["precision"]["precision"], "INT8" in run["precision"]["why"]) == ("fp16", True), run["precision"]["why"]
    for trial in run["trials"]:
        measured = trial["measurement"]
        assert measured["runtime"] == "tensorrt 8.2.1.8"
        power = measured["power"]
        assert (power["source"], power["scope"]) == ("tegrastats POM_5V_IN", "module")
        assert REST_W <= power["mean_w"]["value"] < REST_W + 0.2
        assert "power" in trial["terms"]
    chosen = next(artifact for artifact in run["artifacts"] if artifact["chosen"])
    assert chosen["after"]["measurement"]["energy_ratio"]["low"] <= LIMIT
    assert chosen["after"]["macs"] < run["base"]["macs"]
    assert chosen["device_accuracy"] == chosen["host_accuracy"]
    assert "Energy an inference" in done.out

    nano.done("pull", "latest", "--output", "bundle")
    verify_bundle(nano.folder / "bundle")
    manifest = json.loads((nano.folder / "bundle" / "manifest.json").read_text())
    assert manifest["model"]["precision"] == "fp16"
