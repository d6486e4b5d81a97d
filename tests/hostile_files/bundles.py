"""Bundles' own files, read as the host reads them, and as a board does to which they are deployed."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from unittest import mock

from deploy import signing
from deploy.folder import MANIFEST
from deploy.runtime import SIGNATURE
from deploy.verify import verify_bundle
from device_agents import programs
from device_agents.arguments import Stage
from device_agents.deployment import Deployments
from device_agents.errors import AgentError
from device_agents.files import Files
from device_agents.signature import checked_by_openssl
from pipeline.errors import BundleError
from tests.deployments import bundle, clear

_BUNDLED = {"labels.txt": b"a\nb\n", "model.onnx": b"model"}


def manifest() -> bytes:
    """Return a small bundle's manifest."""
    files = {name: {"sha256": sha256(text).hexdigest(), "bytes": len(text)} for name, text in _BUNDLED.items()}
    return json.dumps(
        {"schema": 1, "files": files, "model": {"file": "model.onnx", "format": "onnx"}, "classes": ["a"]}
    ).encode()


def verify(path: Path) -> None:
    """Verify the bundle of a manifest, on the host."""
    for name, content in _BUNDLED.items():
        (path.parent / name).write_bytes(content)
    verify_bundle(path.parent)


def stage(path: Path) -> None:
    """Have a board put a bundle of this manifest together, from files that were sent to it."""
    received, board = path.parent / "received", path.parent / "board"
    received.mkdir(mode=0o700, exist_ok=True)
    contents = {}
    for name, content in {**_BUNDLED, MANIFEST: path.read_bytes()}.items():
        contents[name] = sha256(content).hexdigest()
        (received / f"{contents[name]}.bin").write_bytes(content)
    try:
        Deployments(str(board)).stage(Stage(str(board), contents[MANIFEST], contents), Files(str(received)))
    except AgentError as error:
        raise BundleError(str(error)) from error
    finally:
        clear(board)


@dataclass(frozen=True)
class _Signed:
    """A signed bundle's files, and the key that it is signed with."""

    files: dict[str, bytes]
    key: signing.PublicKey


@cache
def _signed() -> _Signed:
    with tempfile.TemporaryDirectory() as name, mock.patch.dict(os.environ, XDG_DATA_HOME=f"{name}/data"):
        key, made = signing.new_key(), bundle(Path(name, "bundle"))
        signing.sign(made)
        return _Signed({path.name: path.read_bytes() for path in made.iterdir()}, key)


def signature() -> bytes:
    """Return a bundle's signature."""
    return _signed().files[SIGNATURE]


def check(path: Path) -> None:
    """Verify the bundle that this is to be the signature of, on the host."""
    for name, content in _signed().files.items():
        if name != SIGNATURE and not (path.parent / name).exists():
            (path.parent / name).write_bytes(content)
    verify_bundle(path.parent, trusted=[_signed().key], run=False)


def check_on_board(path: Path) -> None:
    """Check the same signature as a board does, by openssl."""
    program, key = programs.find("openssl"), path.parent / "key.pub"
    assert program is not None
    key.write_bytes(_signed().key.pem)
    files = {name: sha256(content).hexdigest() for name, content in _signed().files.items() if name != SIGNATURE}
    try:
        checked_by_openssl(program, str(path), str(key), files)
    except ValueError as error:
        raise BundleError(str(error)) from error
