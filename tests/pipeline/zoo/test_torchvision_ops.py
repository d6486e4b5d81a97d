"""torchvision imports beside whichever torch is there; each case in a fresh interpreter, since imports happen once."""

import importlib.util
import subprocess
import sys
from pathlib import Path


def run(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_torchvision_imports_and_its_networks_run():
    done = run(
        "import torch\nfrom pipeline.zoo.torchvision_ops import torchvision\n"
        "print(torchvision.models.squeezenet1_1(num_classes=3)(torch.zeros(1, 3, 64, 64)).shape)"
    )
    assert done.stdout.strip() == "torch.Size([1, 3])", done.stderr


def test_schemas_are_declared_exactly_where_torchvision_alone_does_not_import():
    alone = run("import torchvision").returncode == 0
    declared = run("from pipeline.zoo.torchvision_ops import DECLARED; print(DECLARED is not None)").stdout.strip()
    assert declared == str(not alone)


def test_operators_that_are_there_already_are_left_alone():
    """A fitting torchvision registers nms itself; here one that works, written in python, is registered first."""
    done = run(
        "import torch, pathlib\n"
        "own = torch.library.Library('torchvision', 'DEF')\n"
        "own.define('nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')\n"
        "own.define('qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')\n"
        "own.impl('nms', lambda dets, scores, iou: scores.argsort(), 'CPU')\n"
        "from pipeline.zoo.torchvision_ops import DECLARED, torchvision\n"
        "print(DECLARED, torch.ops.torchvision.nms(torch.zeros(2, 4), torch.tensor([2., 1.]), .5).tolist())"
    )
    assert done.stdout.strip() == "None [1, 0]", done.stderr


def test_every_import_of_torchvision_goes_through_the_module():
    zoo = Path(importlib.util.find_spec("pipeline").origin).parent
    importing = {
        file.name
        for file in zoo.rglob("*.py")
        for line in file.read_text().splitlines()
        if line.strip().startswith(("import torchvision", "from torchvision"))
    }
    assert importing == {"torchvision_ops.py"}
