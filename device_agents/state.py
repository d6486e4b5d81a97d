"""What was there before power modes were changed, in a file that outlives this process, and the board's next start.

modes.json in the agent's own folder: {"boot": the kernel's boot id, "before": {mode: what putting it back needs}}.
"""

import contextlib
import json
import os
from typing import Any, Dict, Optional

from device_agents import readings
from device_agents.ordinary import read_own

HELPER = "usr/local/sbin/pipeline-board"
"""Under the board's root. Its verbs: performance, clocks, nvpmodel N, restore, status."""

_MOST_BYTES = 1 << 20
_OUTLIVES_A_BOOT = ("nvpmodel",)


class State:
    """The file in ``folder``; ``root`` is what the board's /proc and /sys hang from."""

    def __init__(self, folder: str, root: Optional[str] = None) -> None:
        self._path = os.path.join(folder, "modes.json")
        self.clocks = os.path.join(folder, "jetson_clocks.conf")
        """Where jetson_clocks itself stores what was before."""
        self.root = readings.ROOT if root is None else root

    def there(self) -> bool:
        """Whether something is still to be put back."""
        return os.path.exists(self._path)

    def before(self) -> Dict[str, Any]:
        """Return what is to be put back; clocks and governors of an earlier boot are gone already."""
        try:
            found = json.loads(read_own(self._path, _MOST_BYTES).decode("utf-8"))
            boot, before = found["boot"], dict(found["before"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return {}
        before = {mode: what for mode, what in before.items() if self._makes_sense(mode, what)}
        if boot != self._boot():
            before = {mode: what for mode, what in before.items() if mode in _OUTLIVES_A_BOOT}
        return before

    def remember(self, mode: str, what: Any) -> None:
        """Add what was there before ``mode`` is changed, unless that is known; on the disk before this returns."""
        before = self.before()
        before.setdefault(mode, what)
        self.keep(before)

    def keep(self, before: Dict[str, Any]) -> None:
        """Write what is still to be put back; with nothing left, remove the file."""
        if not before:
            for path in (self._path, self.clocks):
                with contextlib.suppress(OSError):
                    os.remove(path)
            return
        part = self._path + ".part"
        with open(part, "w", encoding="utf-8") as file:
            json.dump({"boot": self._boot(), "before": before}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, self._path)

    def _makes_sense(self, mode: str, what: Any) -> bool:
        """Whether this can be what was there before: a damaged file must not decide what is written where."""
        if mode == "governor" and isinstance(what, dict):
            policies = os.path.join(self.root, "sys/devices/system/cpu/")
            return all(
                path.startswith(policies) and ".." not in path and isinstance(name, str) and name.isidentifier()
                for path, name in what.items()
            )
        if mode == "nvpmodel":
            return type(what) is int and what >= 0
        return (mode == "governor" and what == HELPER) or (mode == "jetson_clocks" and isinstance(what, str))

    def _boot(self) -> str:
        try:
            with open(os.path.join(self.root, "proc/sys/kernel/random/boot_id"), encoding="utf-8") as file:
                return file.read().strip()
        except OSError:
            return ""
