"""The examples run as they are, one after the other."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipeline.deployment.push import push
from pipeline.devices.agent_client import open_agent
from pipeline.records import Device
from tests import forked
from tests.command_line import PATIENCE_S
from tests.conftest import free_port
from tests.deployments import CLASSES, WHITE, bundle

EXAMPLES = Path(__file__).parents[1] / "examples"


BRIEF = """
defaults:
  measure: {warmup_s: 0.02, min_s: 0.05, max_s: 0.4, block_s: 0.01, ci_rel: 0.2, processes: 1, max_background_cores: 64}
  channel_step: 16
devices: {local: {kind: local}}
"""


def run(name: str, *arguments: object, folder: Path) -> str:
    code, out, err = forked.run_script(EXAMPLES / name, [*map(str, arguments)], folder, dict(os.environ), PATIENCE_S)
    assert code == 0, err
    return out


@pytest.mark.slow
def test_a_network_of_ones_own_is_pruned_pulled_loaded_back_its_run_read_and_planned_anew(tmp_path: Path) -> None:
    (tmp_path / "inventory.yaml").write_text(BRIEF)
    said = run("own_network.py", "example", folder=tmp_path)
    assert "answers of the pruned network: (1, 10)" in said
    listed = run("figures_of_a_run.py", "example/runs", folder=tmp_path)
    assert "on the Pareto front" in listed
    assert "chosen: r1t" in listed
    planned = run("own_agent.py", "example/runs", "latest", 300, folder=tmp_path)
    assert [line.partition(":")[0] for line in planned.splitlines()] == ["0", "3", "predicted reward"]


def test_a_deployed_bundle_answers_over_http_and_makes_way_for_the_next(tmp_path: Path) -> None:
    white = io.BytesIO()
    Image.fromarray(WHITE).save(white, "PNG")
    device = Device(name="local", kind="local", agent_dir=str(tmp_path / "agent"), deploy_dir=str(tmp_path / "board"))
    command = [sys.executable, str(EXAMPLES / "deployment/serve.py"), str(tmp_path / "board/current"), str(free_port())]
    with open_agent(device) as agent, ExitStack() as stack:
        push(bundle(tmp_path / "bundle0", 0), agent, measure=False)
        first = stack.enter_context(started(command))
        assert posted(int(command[-1]), white.getvalue())["label"] == CLASSES[0]
        with pytest.raises(urllib.error.HTTPError, match="400"):
            posted(int(command[-1]), b"no image")
        push(bundle(tmp_path / "bundle2", 2), agent, measure=False)
        assert first.wait(30) == 0  # the switch has ended it, and systemd would start it anew
        stack.enter_context(started(command))
        answer = posted(int(command[-1]), white.getvalue())
        assert (answer["label"], answer["version"][:4]) == (CLASSES[2], "0002")
    assert not list((tmp_path / "board/current").resolve().glob("__pycache__"))


@contextmanager
def started(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(command) as process:
        yield process
        process.kill()


def posted(port: int, content: bytes) -> dict[str, Any]:
    """Return the service's answer, once it listens."""
    until = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", content, timeout=30) as response:
                answer: dict[str, Any] = json.load(response)
                return answer
        except (urllib.error.URLError, ConnectionError) as error:
            if isinstance(error, urllib.error.HTTPError) or time.monotonic() > until:
                raise
            time.sleep(0.1)


def test_every_example_stands_in_the_list() -> None:
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert all(f"`{path.name}`" in listed for path in EXAMPLES.glob("*.py"))
