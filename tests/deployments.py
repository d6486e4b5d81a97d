"""Bundles to deploy, spoilt ones, and a deploy that is killed before any one of the system calls by which it writes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from deploy.bundle import write_bundle
from deploy.facts import BundleFacts, NetworkInput
from pipeline.export.format_plugin import model_format
from tests.command_line import INVENTORY
from tests.examples import artifact, device_facts, figures, space

CLASSES = ("dark", "middling", "bright", "dazzling")
WHITE = np.full((8, 8, 3), 255, np.uint8)
TRAVEL = ("byte", "byte", "byte", "more", "less", "name", "longer")
"""Changes that a copy of the files has, too."""
KINDS = (*TRAVEL, "mode", "link")
WRITING = ("os.rename", "os.mkdir", "os.symlink", "os.remove", "os.rmdir", "os.chmod", "os.truncate", "os.link")
"""Audit events of calls that change what lies on a disk; ``open`` is one where it writes."""


def inventory(folder: Path, *names: str) -> str:
    """Return an inventory of this machine as boards that are deployed on, called local and ``names``."""
    lines = INVENTORY.rstrip().splitlines()
    own = lines[-1].replace("{dir: AGENT}", f"{{dir: {folder}/agent}}, deploy: {{dir: {folder}/board}}")
    return "\n".join([*lines[:-1], *(own.replace("local:", f"{name}:", 1) for name in ("local", *names))]) + "\n"


def network(path: Path, best: int) -> Path:
    """Write a network for which white images are of class ``best``."""
    weights = np.zeros((3, 4), np.float32)
    weights[:, best] = 1
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["input"], ["mean"]),
            helper.make_node("Flatten", ["mean"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weights"], ["scores"]),
        ],
        "brightness",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 4])],
        [numpy_helper.from_array(weights, "weights")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7), path)
    return path


def bundle(folder: Path, best: int = 0, content: bytes | None = None) -> Path:
    """Write a bundle of such a network, or of a file of ``content``; ``best`` tells one from another."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    model = network(folder.parent / f"{folder.name}.onnx", best)
    if content is not None:
        model.write_bytes(content)
    facts = BundleFacts(
        run_id="20261121-041500-digits-local", format=model_format("onnx"), classes=CLASSES, space=space(),
        input=NetworkInput(name="input", shape=(3, 8, 8), mean=(0.5,) * 3, std=(0.1,) * 3), device=device_facts(),
        device_name="pi", base=figures(), seed=best, versions={"torch": "2.13.0"}, config={"model": "net"}, git=None,
    )  # fmt: skip
    made = artifact({"model.onnx": hashlib.sha256(model.read_bytes()).hexdigest()})
    return write_bundle(artifact=made, files={"model.onnx": model}, facts=facts, output=folder)


def spoil(folder: Path, chance: random.Random, kinds: Sequence[str] = KINDS) -> str:
    """Change a bundle in one byte, file, name or mode; return the name that a refusal has to say."""
    name = chance.choice(sorted(path.name for path in folder.iterdir()))
    path = folder / name
    kind = chance.choice(kinds)
    if kind == "byte":
        content = bytearray(path.read_bytes())
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        path.write_bytes(content)
    elif kind == "longer":
        path.write_bytes(path.read_bytes() + b"\n")
    elif kind == "less":
        path.unlink()
    elif kind == "link":
        path.rename(folder.parent / f"moved-{name}")
        path.symlink_to(folder.parent / f"moved-{name}")
    elif kind == "mode":
        path.chmod(0o644 | chance.choice((0o100, 0o020, 0o002, 0o4000, 0o2000, 0o010, 0o001)))
    elif kind == "name":
        path.rename(folder / f"extra-{chance.randrange(10**6)}")
    else:
        name = f"extra-{chance.randrange(10**6)}"
        (folder / name).write_bytes(b"")
    return name


def clear(folder: Path) -> None:
    """Remove a board's folder, whose versions are read-only."""
    for place, _, _ in os.walk(folder):
        Path(place).chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)


def killed_before(call: int, work: Callable[[], None]) -> bool:
    """Do ``work`` in a process that is killed before its ``call``-th system call that writes; return whether it was.

    Python tells of such calls before it makes them (PEP 578), so that every state of the disk between two is tried.
    """
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            assert os.WTERMSIG(status) == signal.SIGKILL
            return True
        assert os.WEXITSTATUS(status) == 0
        return False
    left = call

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        writes = event in WRITING or (event == "open" and _writes(arguments))
        if writes:
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    code = 1
    with contextlib.suppress(BaseException):
        sys.addaudithook(hook)
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
    os._exit(code)


def _writes(arguments: tuple[object, ...]) -> bool:
    flags = arguments[2] if len(arguments) > 2 else 0
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
