"""What the agent itself costs a board: its size, its start, its memory, and its share of a core while a model runs.

    python benchmarks/agent_footprint.py [--device NAME] [--inventory FILE] [--seconds 10]

The agent's processes are watched from a second login (`local`: from a second process) that reads /proc four times a
second. The runtime's process is shown beside them and counted apart: it is what is measured.

There is a sampler only where the inventory names a sensor. Without one, a folder can play the chip, since reading it
costs what reading the kernel's costs: `power: {backend: hwmon, shunt_ohms: 0.1, options: {root: FOLDER}}`, and in
FOLDER/hwmon0 the files name (ina219), in1_input (5000), curr1_input (500) and shunt_resistor (100000).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from pipeline.devices.agent_client import open_agent
from pipeline.devices.inventory.load import load_inventory
from pipeline.devices.sessions.agent_zipapp import zipapp
from pipeline.devices.sessions.ssh_connection import connect
from pipeline.export.onnx.exporter import export
from pipeline.models.digits_cnn import DigitsCNN
from pipeline.records import Device

WATCH = """
import json, os, select, sys, time
seen = []
ticks_s = os.sysconf("SC_CLK_TCK")
def look(pid):
    with open("/proc/%s/cmdline" % pid, "rb") as f:
        words = f.read().decode("utf-8", "replace").split(chr(0))
    at = [i for i, w in enumerate(words) if w.endswith("AGENT")]
    if not at or len(words) <= at[0] + 1:
        return
    with open("/proc/%s/stat" % pid) as f:
        fields = f.read().rpartition(")")[2].split()
    with open("/proc/%s/smaps_rollup" % pid) as f:
        memory = dict(line.split()[:2] for line in f if line.startswith(("Rss:", "Pss:")))
    mode = words[at[0] + 1]
    seen.append([time.time(), pid, "agent" if mode.startswith("-") else mode,
                 (int(fields[11]) + int(fields[12])) / float(ticks_s),
                 int(memory["Rss:"]) / 1024.0, int(memory["Pss:"]) / 1024.0])
while not select.select([sys.stdin], [], [], 0.25)[0]:
    for pid in os.listdir("/proc"):
        if pid.isdigit() and int(pid) != os.getpid():
            try:
                look(pid)
            except (OSError, IndexError, KeyError):
                pass
print(json.dumps(seen))
"""

RUNTIME = "worker"


@dataclass(frozen=True)
class Process:
    """One of the agent's processes, as it was seen."""

    mode: str
    seen: tuple[tuple[float, float, float, float], ...]
    """Wall clock in s, processor time in s, resident MB, and the same with each shared page split among its users."""

    @property
    def most_mb(self) -> float:
        """Return its largest resident set."""
        return max(mb for _, _, mb, _ in self.seen)

    @property
    def most_own_mb(self) -> float:
        """Return its largest share of memory: the sum over processes counts no page twice."""
        return max(mb for _, _, _, mb in self.seen)

    def share(self, start: float, end: float) -> float:
        """Return its share of one core between two instants of the board's clock."""
        inside = [(at, cpu) for at, cpu, _, _ in self.seen if start <= at <= end]
        return (inside[-1][1] - inside[0][1]) / (end - start) if len(inside) > 1 else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="local")
    parser.add_argument("--inventory", type=Path)
    parser.add_argument("--seconds", type=float, default=10.0, help="of one measurement (default 10)")
    args = parser.parse_args()
    device = load_inventory(args.inventory).device(args.device)
    with tempfile.TemporaryDirectory(prefix="agent-footprint-") as own:
        # On this machine others may run the same agent: a folder of its own tells ours from theirs.
        _show(device if device.ssh else replace(device, agent_dir=own), args.seconds)


def _show(device: Device, seconds: float) -> None:
    starts = [_hello_s(device) for _ in range(3)]
    processes = _watched(device, seconds)
    print(f"{device.name}: agent {len(zipapp().content) / 1e3:.1f} kB, hello {starts[0]:.2f} s at first,", end=" ")
    print(f"{min(starts[1:]):.2f} s later")
    Console(width=100).print(_table(processes, seconds))


def _hello_s(device: Device) -> float:
    """Return how long it takes until the board has said what it is, login included."""
    start = time.perf_counter()
    open_agent(device).close()
    return time.perf_counter() - start


def _watched(device: Device, seconds: float) -> list[Process]:
    """Measure a model once; return the agent's processes."""
    torch.manual_seed(0)
    with open_agent(device) as agent, _watch(device) as stop:
        agent.hold()
        model = export(DigitsCNN(classes=10, channels=1).eval(), torch.randn(2, 1, 8, 8), agent.onnx_support)
        # No interval is as narrow as that, so it goes on to the end; and no idle windows, in which nothing runs.
        agent.measure(model, settings=replace(device.measure, min_s=seconds, max_s=seconds, ci_rel=1e-6, idle_s=0.0))
        seen = stop()
    numbers = dict.fromkeys((pid, mode) for _, pid, mode, *_ in seen)
    return [
        Process(mode, tuple((at, *figures) for at, other, kind, *figures in seen if (other, kind) == (pid, mode)))
        for pid, mode in numbers
    ]


@contextmanager
def _watch(device: Device) -> Iterator[Callable[[], list[Any]]]:
    """Watch the board; the function given ends that and returns what was seen."""
    folder = "" if device.ssh else Path(device.agent_dir).name
    program = WATCH.replace("AGENT", f"{folder}/{zipapp().name}")
    python = "python3" if device.python == "auto" else device.python
    if device.ssh is None:
        here = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        yield lambda: json.loads(here.communicate(b"\n")[0])
        return
    link = connect(device.ssh, device.name)
    channel = link.transport.open_session()
    channel.exec_command(f"exec {python} -c '{program}'")
    try:
        yield lambda: _ended(channel)
    finally:
        link.close()


def _ended(channel: Any) -> list[Any]:
    """Have the watching program end; return what it has seen."""
    channel.shutdown_write()
    seen: list[Any] = json.loads(channel.makefile("rb").read())
    return seen


def _table(processes: list[Process], seconds: float) -> Table:
    """Return a row for each process; shares are of the measurement's middle, when nothing starts or ends."""
    worker = max((p for p in processes if p.mode == RUNTIME), key=lambda p: p.seen[-1][1])
    end = worker.seen[-1][0] - 0.1 * seconds
    start = end - 0.6 * seconds
    table = Table("process", "resident MB", "shared pages split, MB", "% of one core", box=None)
    for process in processes:
        _add_row(table, process.mode, [process], start, end)
    _add_row(table, "agent, runtime apart", [p for p in processes if p.mode != RUNTIME], start, end)
    return table


def _add_row(table: Table, name: str, processes: list[Process], start: float, end: float) -> None:
    resident, own = sum(p.most_mb for p in processes), sum(p.most_own_mb for p in processes)
    share = sum(p.share(start, end) for p in processes)
    table.add_row(name, f"{resident:.1f}", f"{own:.1f}", f"{100 * share:.2f}")


if __name__ == "__main__":
    main()
