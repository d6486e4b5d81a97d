"""A whole search on a board with an INA219, whose current follows what the candidates really compute."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import RunConfig
from pipeline.records import Device, MeasureSettings
from pipeline.run.runner import execute, prepared
from pipeline.store import Store
from pipeline.store.facts import CONFIG
from tests.lab.i2c_board import INA219, i2c_board
from tests.lab.ina219_chip import Ina219Chip

pytestmark = [pytest.mark.lab, pytest.mark.slow]

REST_A, BUSY_A = 0.5, 0.3
QUICK = MeasureSettings(
    warmup_s=0.05,
    min_s=0.4,
    max_s=1.2,
    block_s=0.2,
    ci_rel=0.3,
    processes=1,
    idle_s=0.8,  # long beside the moment that the current lags behind the load
    timeout_s=60.0,
    max_background_cores=64,
)


LIMIT = 0.95
STEP = 48
"""Of 192 channels: few levels, so that few cuts are measured."""
NETWORK = """
from torch import nn


class Net(nn.Module):
    '''Most of it is one group of channels, which saves three quarters of its energy: no busy machine hides that.'''

    def __init__(self, num_classes):
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3, padding=1)
        self.wide = nn.Conv2d(16, 192, 3, padding=1)
        self.narrow = nn.Conv2d(192, 16, 3, padding=1)
        self.fc = nn.Linear(16, num_classes)

    def forward(self, x):
        x = self.narrow(self.wide(self.stem(x).relu()).relu()).relu()
        return self.fc(x.mean((2, 3)))
"""


class Drawn:
    """The current of a board that draws more while its runtime computes; looks at the runtime's processor time."""

    def __init__(self, mark: bytes) -> None:
        self._mark = mark
        self._ended = threading.Event()
        self._busy = 0.0
        self._last = (0, 0.0, time.monotonic())
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def amperes(self, t: float) -> float:
        return REST_A + BUSY_A * self._busy + 0.001 * (int(t * 1e3) % 7)

    def close(self) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.02):
            old, before_s, at = self._last
            pid, cpu_s = (self._worker(Path(f"/proc/{old}")) if old else None) or self._found()
            now = time.monotonic()
            self._busy = min(1.0, (cpu_s - before_s) / (now - at)) if pid and pid == old else 0.0
            if pid != old or now - at >= 0.04:  # processor time is counted in hundredths of a second
                self._last = (pid, cpu_s, now)

    def _found(self) -> tuple[int, float]:
        return next(filter(None, map(self._worker, Path("/proc").glob("[0-9]*"))), (0, 0.0))

    def _worker(self, entry: Path) -> tuple[int, float] | None:
        try:
            words = (entry / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
            if words[-1] != b"worker" or self._mark not in (entry / "environ").read_bytes():
                return None
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return int(entry.name), (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    drawn = Drawn(f"PIPELINE_LOCK_DIR={tmp_path}".encode())
    try:
        with i2c_board(tmp_path, Ina219Chip(drawn.amperes, lambda _: 5.0), {}) as server:
            power = replace(INA219, options={**INA219.options, "averaging": 32})
            yield server.device(runtime="onnxruntime", power=power, measure=QUICK, channel_step=STEP)
    finally:
        drawn.close()


def test_energy_is_a_target_a_term_of_the_reward_and_a_figure_with_an_interval(device: Device, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NETWORK)
    config = RunConfig.model_validate(
        {
            "model": f"{tmp_path}/net.py:Net", "data": "digits", "trials": 2, "precision": "float32",
            "target": [f"energy={LIMIT}x", "size=0.4x"], "pruning": {"protect": ["stem", "narrow"]},
            "base_training": {"epochs": 1}, "fine_tuning": {"finalists": 1, "finalist_epochs": 0.1, "epochs": 0.1},
        }
    )  # fmt: skip
    heard: list[Any] = []
    with (
        prepared(config, device, listen=heard.append) as ready,
        Store.create(tmp_path / "runs", label="power") as store,
    ):
        store.set(CONFIG, config.model_dump(mode="json", by_alias=True))
        execute(ready, store, listen=heard.append, stopping=lambda: False)
        chosen = next(a for a in store.artifacts() if a.chosen)
        trials = [t for t in store.trials() if t.measurement]

    power = chosen.after.measurement.power
    assert power is not None
    assert (power.source, power.scope, power.estimated) == ("ina219", "board", False)
    assert REST_A * 5.0 < power.mean_w.value < (REST_A + BUSY_A + 0.01) * 5.0
    assert power.idle_w is not None
    assert REST_A * 5.0 * 0.99 < power.idle_w < power.mean_w.value
    assert power.energy_total_mj.low < power.energy_total_mj.value < power.energy_total_mj.high
    assert power.energy_dynamic_mj is not None
    assert 0 < power.energy_dynamic_mj.value < power.energy_total_mj.value
    energy = chosen.after.measurement.energy_ratio
    assert energy is not None
    assert energy.low < energy.value < energy.high
    assert energy.low <= LIMIT
    assert trials
    for trial in trials:
        assert trial.measurement is not None
        over = trial.measurement.energy_ratio
        assert not trial.feasible or (over is not None and over.value <= LIMIT)
        if trial.failure is None:
            assert {"power", "accuracy"} <= set(trial.terms)
