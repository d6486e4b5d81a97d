"""torchvision imports beside whichever torch is there; each case in a fresh interpreter, since imports happen once."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest


def run(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_every_import_of_torchvision_goes_through_the_module():
    package = Path(importlib.util.find_spec("pipeline").origin).parent
    importing = {
        file.name
        for file in package.rglob("*.py")
        for line in file.read_text().splitlines()
        if line.strip().startswith(("import torchvision", "from torchvision"))
    }
    assert importing == {"torchvision_compat.py"}


USERS = {
    "torchvision": "import torchvision",
    "a part of it": "from torchvision.models import resnet18",
    "its transforms": "from torchvision.transforms import v2",
    "a helper beside the file": "import helper",
    "only when the factory is called": "",
}


BUILD = {
    "net": "from pipeline.models import load_model as f; f('mine.py:net', classes=2, channels=3, weights=None)",
    "data": "from pipeline.data import load_data as f; f('dataset:mine.py:data')",
}
FRESH = {
    "its networks": "from pipeline.torchvision_compat import torchvision\n"
    "assert torchvision.models.squeezenet1_1(num_classes=3)(torch.zeros(1, 3, 64, 64)).shape == (1, 3)",
    "alone": "import torchvision",
    "declared": "from pipeline.torchvision_compat import DECLARED\nassert DECLARED is None",
    "operators of its own": "own = torch.library.Library('torchvision', 'DEF')\n"
    "own.define('nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')\n"
    "own.define('qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')\n"
    "own.impl('nms', lambda dets, scores, iou: scores.argsort(), 'CPU')\n"
    "from pipeline.torchvision_compat import DECLARED, torchvision\n"
    "assert DECLARED is None\n"
    "assert torch.ops.torchvision.nms(torch.zeros(2, 4), torch.tensor([2., 1.]), .5).tolist() == [1, 0]",
}
"""What is tried before anything has declared operators."""
EACH = """
import os, sys, traceback
import torch._dynamo, torch.distributed, torch.onnx
import pipeline.data, pipeline.models
for folder, code in zip(sys.argv[1::2], sys.argv[2::2]):
    if child := os.fork():
        os.waitpid(child, 0)
        continue
    try:
        os.chdir(folder)
        assert not {"torchvision", "pipeline.torchvision_compat"} & sys.modules.keys()
        exec(code)
        said = ""
    except BaseException:
        said = traceback.format_exc()
    with open("said", "w") as file:
        file.write(said)
    os._exit(0)
"""
"""Runs each piece of code in a folder and a process of its own that has torch, and what loads networks and data.

Most of the time that torchvision takes to import are parts of torch's own.
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], str]:
    """What each user's module has to complain of, by kind and imports, and each of what is tried first, by its name."""
    fresh = {("fresh", name): tmp_path_factory.mktemp("fresh") for name in FRESH}
    folders = {(kind, imports): tmp_path_factory.mktemp("user") for kind in BUILD for imports in USERS}
    for (_, imports), folder in folders.items():
        (folder / "helper.py").write_text("from torchvision.ops import Conv2dNormActivation\n")
        (folder / "mine.py").write_text(
            f"import torch\n{USERS[imports]}\n"
            "def net(num_classes):\n    from torchvision import models\n"
            "    return models.squeezenet1_1(num_classes=num_classes)\n"
            "def data():\n    import torchvision.transforms.functional as F\n"
            "    return [(F.hflip(torch.zeros(3, 8, 8)), i % 2) for i in range(24)]\n"
        )
    told = [word for (kind, _), folder in folders.items() for word in (str(folder), BUILD[kind])]
    told += [word for (_, name), folder in fresh.items() for word in (str(folder), f"import torch\n{FRESH[name]}")]
    subprocess.run([sys.executable, "-c", EACH, *told], check=True)
    return {case: (folder / "said").read_text() for case, folder in (folders | fresh).items()}


def test_torchvision_imports_and_its_networks_run(said: dict[tuple[str, str], str]) -> None:
    assert said["fresh", "its networks"] == ""


def test_schemas_are_declared_exactly_where_torchvision_alone_does_not_import(said: dict[tuple[str, str], str]) -> None:
    assert (said["fresh", "declared"] == "") == (said["fresh", "alone"] == "")


def test_operators_that_are_there_already_are_left_alone(said: dict[tuple[str, str], str]) -> None:
    """A fitting torchvision registers nms itself; here one that works, written in python, is registered first."""
    assert said["fresh", "operators of its own"] == ""


@pytest.mark.parametrize("imports", USERS)
@pytest.mark.parametrize("kind", BUILD)
def test_a_users_module_may_import_torchvision_before_anything_else_did(
    said: dict[tuple[str, str], str], kind: str, imports: str
) -> None:
    assert said[kind, imports] == ""


def test_torchvision_is_imported_only_where_it_is_asked_for():
    done = run("import sys, pipeline.import_path\nprint('torchvision' in sys.modules)")
    assert done.stdout.strip() == "False", done.stderr


def test_help_needs_no_torch():
    done = run("import sys, pipeline.cli.app\nprint([n for n in ('torch', 'torchvision') if n in sys.modules])")
    assert done.stdout.strip() == "[]", done.stderr
