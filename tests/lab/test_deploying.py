"""A bundle deployed on a Raspberry Pi 4's programs over real SSH: aarch64 Python and onnxruntime, under qemu-user."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy import signing
from pipeline.deployment.push import push, roll_back, status, trust
from pipeline.devices.agent_client import open_agent
from pipeline.devices.inventory.load import load_inventory
from tests.deployments import CLASSES, bundle
from tests.lab.board import Board

pytestmark = [pytest.mark.lab, pytest.mark.timeout(500)]

MEASURE = {
    "warmup_s": 0.02, "min_s": 0.1, "max_s": 0.5, "block_s": 0.02, "ci_rel": 0.5, "processes": 1,
    "max_background_cores": 64,
}  # fmt: skip
ANSWER = """
import os, sys
import numpy as np
folder = os.path.expanduser("~/models/current")
sys.path.insert(0, folder)
from runtime import Model
print(Model.open(folder).predict(np.full((8, 8, 3), 255, np.uint8)).label)
"""


def test_signed_bundles_are_deployed_answer_there_and_are_undone(raspberry_pi: Board, tmp_path: Path) -> None:
    """The board has no openssl or has one: either way it is said who checked the signature."""
    (tmp_path / "inventory.yaml").write_text(raspberry_pi.inventory(measure=MEASURE, deploy={"dir": "~/models"}))
    device = load_inventory(tmp_path / "inventory.yaml").device(raspberry_pi.name)
    key = signing.new_key()
    with open_agent(device) as agent:
        trust(agent, key)
        checked_by = "board" if status(agent).verifier else "host"
        for best in (1, 2):
            folder = bundle(tmp_path / f"bundle{best}", best)
            signing.sign(folder)
            pushed = push(folder, agent)
            assert (pushed.checked_by, pushed.self_test.ok) == (checked_by, True)
            assert pushed.self_test.difference < 1e-3  # x86-64's answers, on aarch64
            assert raspberry_pi.run(raspberry_pi.python, "-B", "-", stdin=ANSWER).strip() == CLASSES[best]
        assert pushed.measured is not None
        assert pushed.measured.ratio is not None
        roll_back(agent)
        assert raspberry_pi.run(raspberry_pi.python, "-B", "-", stdin=ANSWER).strip() == CLASSES[1]
        trust(agent, key, forget=True)
    raspberry_pi.assert_tidy()
