"""Bundles pushed over a real SSH server: tried, measured, switched, undone; a cut anywhere leaves one that answers."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from deploy import runtime, signing
from deploy.sealing import seal
from pipeline.deployment.push import push, require_no_overflow, roll_back, status, trust
from pipeline.devices.agent_client import Agent, open_agent
from pipeline.errors import AgentError, BundleError, DeviceError, MeasureError
from pipeline.records import Device, Processor
from tests.conftest import Proxy, Sshd
from tests.deployments import CLASSES, WHITE, bundle, clear

CUTS = 4
KILLS = 3


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three bundles that answer differently; only to be read."""
    folder = tmp_path_factory.mktemp("bundles")
    return [bundle(folder / f"bundle{best}", best) for best in range(3)]


def board(sshd: Sshd, **changes: object) -> Device:
    return sshd.device(runtime="onnxruntime", deploy_dir=str(sshd.folder / "board"), **changes)


def answer(device: Device) -> str:
    """Return what the version that runs gives for a white image, as a program on the board gets it."""
    return runtime.Model.open(Path(device.deploy_dir) / "current").predict(WHITE).label


@pytest.mark.sshd
def test_a_bundle_runs_then_the_next_beside_it_then_the_first_again(sshd: Sshd, bundles: list[Path]) -> None:
    device, stages = board(sshd), []
    with open_agent(device) as agent:
        first = push(bundles[0], agent, on_stage=stages.append)
        assert (answer(device), first.previous, first.switched, first.checked_by) == ("dark", None, True, "nobody")
        assert first.measured is not None
        assert first.measured.ratio is None
        second = push(bundles[1], agent)
        assert answer(device) == "middling"
        assert second.measured is not None
        assert second.measured.ratio is not None
        assert second.sent_bytes < first.sent_bytes
        assert second.self_test.difference < 1e-6
        again = push(bundles[1], agent)
        assert (again.switched, again.measured, again.current) == (False, None, second.current)
        back = roll_back(agent)
        assert (back.current, back.previous) == (first.current, again.current)
        assert answer(device) == "dark"
        found = status(agent)
        assert (found.current, found.previous, found.problem) == (back.current, back.previous, None)
    assert stages == [
        "verify the bundle", f"send {10} of {10} files", "run the stored inputs on the board", "measure it", "switch",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("model", "quantization", "processor", "refused"),
    [
        ({"precision": "int8", "weight_bits": 8}, None, Processor("x86_64"), True),
        ({"precision": "int8"}, None, Processor("x86_64"), True),
        ({"file": "model.onnx"}, {"precision": "int8", "weight_bits": 8}, Processor("x86_64"), True),
        ({"precision": "int8", "weight_bits": 7}, None, Processor("x86_64"), False),
        ({"precision": "int8", "weight_bits": 8}, None, Processor("x86_64", has_vnni=True), False),
        ({"precision": "int8", "weight_bits": 8}, None, Processor("aarch64"), False),
        ({"precision": "float32"}, None, Processor("x86_64"), False),
    ],
)
def test_int8_weights_that_overflow_on_a_board_are_refused_with_the_command_that_writes_others(
    model: dict[str, Any], quantization: dict[str, Any] | None, processor: Processor, refused: bool
) -> None:
    manifest = {"model": model, **({} if quantization is None else {"quantization": quantization})}
    said = pytest.raises(BundleError, match=r"overflow on its processor.*pipeline quantize RUN --device pi")
    with said if refused else contextlib.nullcontext():
        require_no_overflow(manifest, processor, Device(name="pi", kind="linux", runtime="onnxruntime"))


def test_this_machine_is_deployed_on_as_a_board_is(tmp_path: Path, bundles: list[Path]) -> None:
    device = Device(name="local", kind="local", agent_dir=str(tmp_path / "agent"), deploy_dir=str(tmp_path / "board"))
    with open_agent(device) as agent:
        push(bundles[2], agent, measure=False)
        with pytest.raises(AgentError, match="there is no version to go back to"):
            roll_back(agent)
    assert answer(device) == "bright"


@pytest.mark.sshd
def test_a_board_that_trusts_a_key_takes_bundles_signed_by_it(sshd: Sshd, bundles: list[Path], tmp_path: Path) -> None:
    device, key = board(sshd), signing.new_key()
    mine = Path(shutil.copytree(bundles[0], tmp_path / "mine"))
    signing.sign(mine)
    with open_agent(device) as agent:
        assert push(mine, agent, measure=False).checked_by == "host"
        assert [one.id for one in trust(agent, key)] == [key.id]
        with pytest.raises(BundleError, match=rf"is unsigned, and has to be signed by {key.id[:16]}"):
            push(bundles[1], agent, measure=False)
        assert answer(device) == "dark"
        other = Path(shutil.copytree(bundles[1], tmp_path / "other"))
        signing.sign(other)
        pushed = push(other, agent, measure=False)
        assert (pushed.checked_by, pushed.current and pushed.current.checked) == ("board", "board")
        assert trust(agent, key, forget=True) == []


@pytest.mark.sshd
def test_a_bundle_that_answers_otherwise_on_the_board_is_not_switched_to(
    sshd: Sshd, bundles: list[Path], tmp_path: Path
) -> None:
    """Of a format of one's own, which the host does not run, so that the board is the first to find out."""
    device = board(sshd)
    wrong = Path(shutil.copytree(bundles[1], tmp_path / "wrong"))
    np.save(wrong / "test_outputs.model.onnx.npy", np.ones((4, 4), np.float32))
    manifest = runtime.read_manifest(wrong)
    manifest["model"]["format"] = "own.py"
    seal(wrong, {name: value for name, value in manifest.items() if name != "files"})
    with open_agent(device) as agent:
        push(bundles[0], agent, measure=False)
        with pytest.raises(MeasureError, match=r"model\.onnx answers the stored inputs otherwise there"):
            push(wrong, agent, measure=False)
    assert answer(device) == "dark"


def test_a_board_without_room_is_sent_nothing(tmp_path: Path, bundles: list[Path]) -> None:
    """The kernel's smallest file system that can be full: one page of a tmpfs, or else what root may not mount here."""
    place = tmp_path / "board"
    place.mkdir()
    if os.system(f"mount -t tmpfs -o size=1m tmpfs {place} 2>/dev/null") != 0:
        pytest.skip("needs root and CAP_SYS_ADMIN to mount a small file system")
    try:
        device = Device(name="local", kind="local", agent_dir=str(tmp_path / "agent"), deploy_dir=str(place))
        with open_agent(device) as agent, pytest.raises(DeviceError, match=r"B are free for .*, the bundle takes"):
            push(bundles[0], agent, measure=False)
        assert not list((tmp_path / "agent" / "files").iterdir())
    finally:
        os.system(f"umount {place}")


# ---------------------------------------------------------------- cuts


def with_one(device: Device, bundle: Path) -> Path:
    """Deploy a bundle; return a copy of the board's folder."""
    with open_agent(device) as agent:
        push(bundle, agent, measure=False)
    return Path(shutil.copytree(device.deploy_dir, f"{device.deploy_dir}-kept", symlinks=True))


def as_kept(device: Device, kept: Path) -> None:
    """Bring the board's folder back to what it was."""
    clear(Path(device.deploy_dir))
    shutil.copytree(kept, device.deploy_dir, symlinks=True)
    assert answer(device) == "dark"


def settled(device: Device, bundles: list[Path]) -> None:
    """One of the two answers; then the next deploy goes through, and back."""
    assert answer(device) in CLASSES[:2]
    with open_agent(device) as agent:
        push(bundles[2], agent, measure=False)
        assert answer(device) == "bright"
        roll_back(agent)
    assert answer(device) in CLASSES[:2]


@pytest.mark.sshd
@pytest.mark.slow
def test_a_link_that_is_cut_after_any_number_of_bytes_leaves_one_that_answers(
    sshd: Sshd, start_proxy: Callable[[int, int], Proxy], bundles: list[Path]
) -> None:
    chance, device, cut = random.Random(0), board(sshd), 0
    kept = with_one(device, bundles[0])
    for _ in range(CUTS):
        as_kept(device, kept)
        proxy = start_proxy(sshd.port, chance.randrange(3_000, 30_000))
        sshd.trust(proxy.port)
        through = replace(device, ssh=sshd.address(port=proxy.port, retries=0))
        with contextlib.suppress(DeviceError), open_agent(through) as agent:
            push(bundles[1], agent, measure=False)
        cut += proxy.cuts
        settled(device, bundles)
    assert cut >= CUTS // 2


@pytest.mark.sshd
@pytest.mark.slow
def test_an_agent_that_is_killed_at_any_moment_leaves_one_that_answers(sshd: Sshd, bundles: list[Path]) -> None:
    chance, device, killed = random.Random(1), board(sshd), 0
    kept = with_one(device, bundles[0])
    for _ in range(KILLS):
        as_kept(device, kept)
        once = replace(device, ssh=sshd.address(retries=0))
        with contextlib.suppress(DeviceError, MeasureError), open_agent(once) as agent:
            timer = threading.Timer(chance.uniform(0, 0.8), kill_agents, [str(sshd.folder)])
            timer.start()
            try:
                push(bundles[1], agent, measure=False)
            except (DeviceError, MeasureError):
                killed += 1
                raise
            finally:
                timer.cancel()
        settled(device, bundles)
    assert killed > 0


def kill_agents(folder: str) -> None:
    """Kill the agents that serve this test's own folder."""
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "--dir" in words and words[-1].startswith(folder):
            with contextlib.suppress(psutil.Error):
                process.kill()


def test_a_lost_session_in_the_middle_is_taken_up_again(tmp_path: Path, bundles: list[Path]) -> None:
    """Each request says all that it needs: the agent ends between staging and switch, and a new one goes on."""
    device = Device(name="local", kind="local", agent_dir=str(tmp_path / "agent"), deploy_dir=str(tmp_path / "board"))
    with open_agent(device) as agent:

        def end(stage: str) -> None:
            if stage in ("switch", "run the stored inputs on the board"):
                kill_agents(str(tmp_path))

        push(bundles[0], agent, measure=False, on_stage=end)
    assert answer(device) == "dark"
    assert isinstance(agent, Agent)
