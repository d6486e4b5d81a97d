"""Push: a bundle goes to a board, is tried and measured there, and runs from one moment to the next.

verify here → what runs there, what it trusts, what it has → space → files that are missing → staged and checked there →
signature → self-test → measured beside the version that runs → switch. Until the switch, which is one renaming, the
version that runs is not touched; whatever ends the way before, it goes on.
"""

from __future__ import annotations

import getpass
import hashlib
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from deploy import runtime
from deploy.signing import PublicKey
from deploy.verify import Verified, verify_bundle
from pipeline import answers, regular_file
from pipeline.answers import DeployedVersion
from pipeline.devices.agent_client import QUICK_S, Agent
from pipeline.errors import BundleError, DiskFullError, MeasureError
from pipeline.records import Device, Measurement, Processor

SPARE_BYTES = 16 * 10**6
"""What has to stay free on a board beside a bundle's files."""
_BYTES_A_SECOND = 1_000_000
"""At which a slow board copies, hashes and flushes."""

OnStage = Callable[[str], None]
"""Hears what is being done."""
CheckedBy = Literal["board", "host", "nobody"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """What came of a push."""

    device: str
    folder: str
    """On the board; ``current`` in it leads to the version that runs."""
    current: DeployedVersion | None
    previous: DeployedVersion | None
    sent_bytes: int
    """Of files; what the board had already was not sent."""
    signature: Literal["valid", "unsigned"]
    checked_by: CheckedBy
    """Of the signature; nobody: the bundle is unsigned, or by a key that neither knows."""
    self_test: answers.SelfTested
    measured: Measurement | None
    """In turns with the version that ran, where there was one: ``ratio`` is its latency over that one's.

    None: not asked for, or running already.
    """
    switched: bool
    """False: it was running already."""


def push(bundle: Path, agent: Agent, *, measure: bool = True, on_stage: OnStage = lambda _: None) -> Pushed:
    """Deploy a bundle on a board.

    Raises:
        BundleError: it is not what was written, or not signed as the board wants it.
        MeasureError: it does not run there, or answers otherwise.
        DiskFullError: the board has no room for it.
        DeviceError: the board, or the way to it, failed; the version that ran before still runs.
    """
    on_stage("verify the bundle")
    there = status(agent, tidy=True)
    trusted = [PublicKey(pem.encode()) for pem in there.trusted] or None
    found, manifest = verify_bundle(bundle, trusted=trusted)
    folder = Path(found.folder)
    _require_runnable(folder, manifest)
    require_no_overflow(manifest, agent.processor, agent.device)
    files = {path.name: runtime.file_sha256(path) for path in sorted(folder.iterdir())}
    missing = sorted({sha256 for sha256 in files.values() if sha256 not in there.contents})
    _require_room(agent, there, folder, files, missing)
    on_stage(f"send {len(missing)} of {len(files)} files")
    before = agent.bytes_sent
    staged = _stage(agent, folder, found, files, missing)
    checked_by = _who_checked(staged, found)
    agent.hold()
    on_stage("run the stored inputs on the board")
    tested = _self_test(agent, staged)
    was = None if there.current is None else there.current.name
    measured = _measured(agent, folder, manifest, on_stage) if measure and staged.name != was else None
    on_stage("switch")
    switched = agent.request(
        answers.Switched, _seconds(found), dir=agent.device.deploy_dir, name=staged.name, vouched=checked_by == "host",
        owner=owner(), deployed=now(),
    )  # fmt: skip
    return Pushed(
        device=agent.device.name, folder=there.folder, current=switched.current, previous=switched.previous,
        sent_bytes=agent.bytes_sent - before, signature="unsigned" if found.signature == "unsigned" else "valid",
        checked_by=checked_by, self_test=tested, measured=measured,
        switched=staged.name != was,
    )  # fmt: skip


def status(agent: Agent, *, tidy: bool = False) -> answers.Deployed:
    """Return what is deployed on a board; ``tidy`` removes what pushes that were cut have left there."""
    return agent.request(answers.Deployed, 2 * QUICK_S, dir=agent.device.deploy_dir, tidy=tidy)


def roll_back(agent: Agent) -> answers.Switched:
    """Let the version run again that ran before.

    Raises:
        DeviceError: there is none, or it is damaged.
    """
    return agent.request(
        answers.Switched, 2 * QUICK_S, dir=agent.device.deploy_dir, name=None, owner=owner(), deployed=now(),
        vouched=True,
    )  # fmt: skip


def trust(agent: Agent, key: PublicKey, *, forget: bool = False) -> list[PublicKey]:
    """Let a board trust a public key, or no longer; return those that it trusts now."""
    now_trusted = agent.request(
        answers.Trusted, QUICK_S, dir=agent.device.deploy_dir, pem=key.pem.decode(), forget=forget
    )  # fmt: skip
    return [PublicKey(pem.encode()) for pem in now_trusted.trusted]


def owner() -> str:
    """Return who deploys, as a board notes it."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def now() -> str:
    """Return when, as a board notes it: boards often have no clock of their own."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _require_runnable(folder: Path, manifest: dict[str, Any]) -> None:
    if manifest.get("test_vectors") is None or "runtime.py" not in manifest["files"]:
        raise BundleError(
            f"{folder} holds no runtime.py, or no stored inputs and answers to try it with on the board; pull it again:"
            " classifiers get them"
        )


def require_no_overflow(manifest: dict[str, Any], processor: Processor, device: Device) -> None:
    """Refuse INT8 weights that overflow where a board adds them: answers are wrong without a word, on some images only.

    Raises:
        BundleError: says how to get others.
    """
    model, quantized = manifest["model"], manifest.get("quantization") or {}
    is_int8 = "int8" in (model.get("precision"), quantized.get("precision"))
    bits = model.get("weight_bits") or quantized.get("weight_bits") or 8
    if is_int8 and bits == 8 and device.runtime == "onnxruntime" and processor.saturates:
        raise BundleError(
            f"{device.name}: this network's INT8 weights have eight bits, which overflow on its processor, an x86 "
            f"without VNNI: answers would be wrong; `pipeline quantize RUN --device {device.name}` writes seven bits"
        )


def _require_room(
    agent: Agent, there: answers.Deployed, folder: Path, files: dict[str, str], missing: list[str]
) -> None:
    sizes = {sha256: (folder / name).stat().st_size for name, sha256 in files.items()}
    sent = [sizes[sha256] for sha256 in missing]
    needed = sum((folder / name).stat().st_size for name in files) + max(sent, default=0) + SPARE_BYTES
    if there.free_bytes < needed:
        raise DiskFullError(
            f"{agent.device.name}: {there.free_bytes:,} B are free for {there.folder}, the bundle takes {needed:,} B;"
            " make room, or set deploy: dir to another disk"
        )


def _stage(agent: Agent, folder: Path, found: Verified, files: dict[str, str], missing: list[str]) -> answers.Staged:
    """Send what is missing and have it put together; contents are compared with their checksums once more there."""
    contents = {}
    for name, sha256 in files.items():
        if sha256 in missing:
            contents[sha256] = regular_file.read_bytes(folder / name, regular_file.MODEL_BYTES)
            if hashlib.sha256(contents[sha256]).hexdigest() != sha256:
                raise BundleError(f"{folder}: {name} changed while it was read; verify it again")
    sent = [(f"{sha256}.bin", content) for sha256, content in contents.items()]
    return agent.request(
        answers.Staged, _seconds(found), sent, dir=agent.device.deploy_dir, version=found.sha256, contents=files
    )  # fmt: skip


def _who_checked(staged: answers.Staged, found: Verified) -> CheckedBy:
    if staged.signature == "valid":
        return "board"
    return "host" if staged.signature == "unchecked" and found.signature == "valid" else "nobody"


def _self_test(agent: Agent, staged: answers.Staged) -> answers.SelfTested:
    settings, name = agent.device.measure, agent.device.name
    limit_s = settings.timeout_s + (settings.build_timeout_s if agent.runtime.builds else 0)
    tested = agent.request(
        answers.SelfTested, limit_s + QUICK_S, dir=agent.device.deploy_dir, staged=staged.name,
        runtime="tensorrt" if agent.device.runtime == "tensorrt" else "", timeout_s=limit_s,
    )  # fmt: skip
    if not tested.ok:
        off = f"by {tested.difference:.2g} of the largest score; {tested.tolerance:g} is usual"
        raise MeasureError(
            f"{name}: {tested.file} answers the stored inputs otherwise there, {off}. Nothing was switched; another"
            " version of the runtime may compute it right"
        )
    return tested


def _measured(agent: Agent, folder: Path, manifest: dict[str, Any], on_stage: OnStage) -> Measurement:
    """Measure the model, in turns with the one that runs now where there is one."""
    file = str(manifest["model"]["file"])
    running = agent.request(answers.Offered, 2 * QUICK_S, dir=agent.device.deploy_dir).file
    if running is not None and not running.endswith(f".{file.rpartition('.')[2]}"):
        running = None  # of another runtime, which cannot take turns with this one
    on_stage("measure it" + ("" if running is None else " beside the version that runs"))
    model = regular_file.read_bytes(folder / file, regular_file.MODEL_BYTES)
    return agent.measure(model, file.rpartition(".")[2], reference=running)


def _seconds(found: Verified) -> float:
    return 2 * QUICK_S + found.size_bytes / _BYTES_A_SECOND
