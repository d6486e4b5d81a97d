"""A whole search with TensorFlow Lite on this machine, from the converter to the bundle, in INT8."""

from __future__ import annotations

import json

import pytest

from pipeline.export.tflite.environment import VARIABLE, converter_python
from tests.command_line import Desk
from tests.lab.conftest import SETTINGS
from tests.lab.networks import CHAIN

pytestmark = [pytest.mark.lab, pytest.mark.timeout(500)]


def test_a_search_with_tflite_ends_with_artifacts_that_were_verified_by_it(
    small_run: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(converter_python()))  # kept in this user's cache; the run's own is empty
    desk = small_run
    desk.write("net.py", (desk.folder / "net.py").read_text() + CHAIN)
    desk.settings(**{**SETTINGS, "model": "net.py:Chain", "pruning": "{protect: [stem]}"})
    inventory = (desk.folder / "inventory.yaml").read_text()
    local = inventory.replace("kind: local,", "kind: local, runtime: tflite, format: tflite,")
    desk.write("inventory.yaml", local.replace("channel_step: 4", "channel_step: 16"))
    desk.done("run", "--device", "local", "--config", "run.yaml", "--precision", "int8")

    run = desk.done("runs", "show", "latest", "--json").json
    assert run["status"] == "finished"
    assert [trial["failure"] for trial in run["trials"]] == [None] * 3
    assert all(trial["measurement"]["runtime"].startswith("tflite") for trial in run["trials"] if trial["measurement"])
    (best,) = [artifact for artifact in run["artifacts"] if artifact["chosen"]]
    assert best["verified_images"] > 0
    assert best["device_accuracy"] == pytest.approx(best["host_accuracy"], abs=0.01)  # verified there
    assert best["precision"] == "int8"

    desk.done("pull", "latest", "--output", "bundle")
    assert "model.tflite" in json.loads((desk.folder / "bundle" / "manifest.json").read_text())["files"]
