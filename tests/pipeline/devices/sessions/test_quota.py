"""The agent's folder of files over a real sshd, filled past its quota: the longest unused go, and come if needed."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from device_agents.files import QUOTA_BYTES
from pipeline.devices.agent_client import open_agent
from pipeline.export.onnx.skeleton import skeleton
from pipeline.records import Device
from tests.conftest import Sshd
from tests.recordings import QUICK, dense

pytestmark = [pytest.mark.sshd, pytest.mark.slow]

WIDTH = 98_000
"""Of 64 inputs each: 25 MB of weights, so that a fifth network does not fit beside four others and ``OTHER_BYTES``."""
OTHER_BYTES = QUOTA_BYTES - int(4.3 * 64 * 4 * WIDTH)
"""Of a file that was used last."""


class Watched:
    """The bytes in a folder's files, looked at some hundred times a second."""

    def __init__(self, folder: Path) -> None:
        self.most = 0
        self._folder = folder
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    @property
    def now(self) -> int:
        sizes = 0
        for path in self._folder.glob("*"):
            try:
                sizes += path.stat().st_size
            except FileNotFoundError:
                continue
        return sizes

    def close(self) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.005):
            self.most = max(self.most, self.now)


@pytest.fixture
def device(sshd: Sshd) -> Device:
    return sshd.device(runtime="onnxruntime", measure=replace(QUICK, processes=1))


@pytest.fixture
def files(device: Device) -> Iterator[Watched]:
    watched = Watched(Path(device.agent_dir) / "files")
    yield watched
    watched.close()


def test_files_past_the_quota_push_out_the_longest_unused_which_are_sent_again_when_needed(
    device: Device, files: Watched
) -> None:
    skeletons = [skeleton(dense(seed=seed, width=WIDTH + seed)) for seed in range(5)]
    whole = dense(seed=5, width=WIDTH)
    names = [hashlib.sha256(weightless).hexdigest() for weightless in skeletons]

    def there() -> list[int]:
        lying = {path.name for path in Path(device.agent_dir, "files").iterdir()}
        return [i for i, name in enumerate(names) if {f"{name}.skeleton", f"{name}-0.expanded"} <= lying]

    with open_agent(device) as agent:
        other = Path(device.agent_dir, "files", "0" * 64 + ".onnx")
        with other.open("wb") as sparse:
            sparse.truncate(OTHER_BYTES)
        os.utime(other, (time.time() + 1e6,) * 2)
        for weightless in skeletons[:4]:
            assert agent.measure(weightless, "skeleton").bytes_sent == len(weightless)
        assert agent.measure(skeletons[0], "skeleton").bytes_sent == 0
        assert there() == [0, 1, 2, 3]
        assert agent.measure(skeletons[4], "skeleton").bytes_sent == len(skeletons[4])
        assert there() == [0, 2, 3, 4], "the first was used again after the second"
        assert agent.measure(skeletons[1], "skeleton").bytes_sent == len(skeletons[1])
        assert there() == [0, 1, 3, 4]
        assert 0.9 * QUOTA_BYTES < files.most <= QUOTA_BYTES

        assert agent.measure(whole).bytes_sent == len(whole)
        assert (there(), files.now <= QUOTA_BYTES) == ([0, 1, 4], True)
        assert agent.measure(whole).bytes_sent == 0
        assert other.exists()
