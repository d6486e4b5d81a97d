"""How much of the board's memory a worker may hold, and an end to the one that takes more.

A damaged model file can ask for any amount, and a board whose memory is used up answers nobody for minutes. The limit
is on what is really held, pages and swap, not on addresses: CUDA reserves far more of those than there is memory, so
RLIMIT_AS cannot be used, and RLIMIT_DATA would count what was asked for and never touched. So the agent looks at the
worker and all that it started, ten times a second; and where the whole board has next to nothing left, as when a GPU
shares its memory, the worker is ended as well.
"""

import importlib
import os
import re
import time
from typing import Any, Dict, List, Optional

from device_agents import telemetry
from device_agents.errors import AgentError
from device_agents.protocol import CRASHED
from device_agents.readings import ROOT, number, text, text_under

EVERY_S = 0.1
_FAMILY_S = (0.5, 10.0)
"""When a process's children are looked for again, at first and later: that reads the whole of /proc."""
_LEAST_FREE = 0.03
"""Of the board's memory, swap included; with less the kernel begins to end processes of its own choice."""

OUT_OF_MEMORY = re.compile(
    r"out.?of.?memory|MemoryError|bad.?alloc|cudaErrorMemoryAllocation|memory .{0,40}could not be allocated"
    r"|insufficient memory|fail\w* to allocate|cannot allocate(?! memory in static TLS)|SIGKILL|exit code 137",
    re.I,
)
"""As the kernel, CUDA, C++'s library, ONNX Runtime and TensorRT 7 to 10 put it: github.com/NVIDIA/TensorRT issues 477,
840, 4258."""

_HELD = re.compile(r"^(RssAnon|RssShmem|VmSwap):\s*(\d+) kB", re.M)
_CGROUPS = ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes")


class Guard:
    """Watches one process and all that it starts; ``share`` is of the board's memory, None: no limit."""

    def __init__(self, pid: int, share: Optional[float], root: str = ROOT) -> None:
        self._pid = pid
        self._root = root
        self._share = share
        self._board_mb = board_mb(root)
        self._limit_mb = self._board_mb * (share or 0.0)
        self._family: List[int] = []
        self._family_due = self._looked_at = 0.0
        self._family_s = _FAMILY_S[0]
        self._most_mb = 0.0

    def look(self) -> None:
        """Look, if it is time to.

        Raises:
            AgentError: CRASHED, the process holds more than it may, or the board has next to nothing left.
        """
        now = time.monotonic()
        if self._share is None or now - self._looked_at < EVERY_S:
            return
        self._looked_at = now
        if now >= self._family_due:
            self._family = [self._pid] + descendants(self._pid)
            self._family_due, self._family_s = now + self._family_s, min(2 * self._family_s, _FAMILY_S[1])
        found_mb = sum(map(held_mb, self._family))
        self._most_mb = max(self._most_mb, found_mb)
        if found_mb > self._limit_mb:
            raise AgentError(CRASHED, "out of memory: the runtime's process %s, and was ended" % self._words())
        free_mb = _free_mb(self._root)
        if free_mb is not None and free_mb < _LEAST_FREE * self._board_mb:
            raise AgentError(
                CRASHED,
                "out of memory: %.0f MB of the board's %.0f MB were left, swap included, and the runtime's process "
                "was ended; it %s" % (free_mb, self._board_mb, self._words()),
            )

    def explain(self, words: str) -> str:
        """Return ``words``, and what the process held and may hold where they speak of memory."""
        if self._share is None or not OUT_OF_MEMORY.search(words):
            return words
        return "%s; as for memory, the runtime's process %s" % (words.rstrip(), self._words())

    def _words(self) -> str:
        return "held up to %.0f MB, its limit is %.0f MB (measure.memory_share: %g of the board's %.0f MB)" % (
            self._most_mb, self._limit_mb, self._share or 0.0, self._board_mb
        )  # fmt: skip


def board_mb(root: str = ROOT) -> float:
    """Return the memory that the board has, or this container of it."""
    total_mb = telemetry.memory_mb(root, "MemTotal") or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e6
    limits_mb = [(number(text_under(root, path)) or 0.0) / 1e6 for path in _CGROUPS]
    return min([total_mb] + [limit_mb for limit_mb in limits_mb if limit_mb > 0])


def held_mb(pid: int) -> float:
    """Return the memory that a process holds, in pages and in swap, 0 when it is gone.

    Files that it maps do not count: the kernel can drop their pages.
    """
    said = text("/proc/%d/status" % pid) or ""
    return sum(int(kb) for _, kb in _HELD.findall(said)) * 1024 / 1e6


def descendants(pid: int) -> List[int]:
    """Return every process below this one: by psutil where the board has it, else read from /proc."""
    try:
        psutil: Any = importlib.import_module("psutil")
    except Exception:  # not installed, or broken
        return _below(pid, _parents())
    try:
        return [process.pid for process in psutil.Process(pid).children(recursive=True)]
    except psutil.Error:  # it has ended
        return []


def _parents() -> Dict[int, int]:
    """Return each process's parent."""
    found = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        fields = (text("/proc/%s/stat" % name) or "").rpartition(")")[2].split()
        if len(fields) > 1:
            found[int(name)] = int(fields[1])
    return found


def _below(pid: int, parents: Dict[int, int]) -> List[int]:
    found: List[int] = []
    fresh = [pid]
    while fresh:
        fresh = [child for child, parent in parents.items() if parent in fresh]
        found += fresh
    return found


def prefer_as_victim() -> None:
    """Have the kernel end this process before any other of the board's, should memory end faster than anybody looks."""
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write("1000")
    except OSError:
        pass


def _free_mb(root: str) -> Optional[float]:
    free_mb = telemetry.memory_mb(root, "MemAvailable")
    return None if free_mb is None else free_mb + (telemetry.memory_mb(root, "SwapFree") or 0.0)
