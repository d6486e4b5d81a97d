"""What was there before power modes were changed, in a file that outlives this process, and the board's next start.

modes.json in the agent's own folder: {"boot": the kernel's boot id, "before": {mode: what putting it back needs}}.
"""

import contextlib
import json
import os
from typing import Any, Dict, Optional

from device_agents import readings

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
            with open(self._path, encoding="utf-8") as file:
                found = json.load(file)
            before = dict(found["before"])
        except (OSError, ValueError, KeyError, TypeError):
            return {}
        if found["boot"] != self._boot():
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
                with contextlib.suppress(FileNotFoundError):
                    os.remove(path)
            return
        part = self._path + ".part"
        with open(part, "w", encoding="utf-8") as file:
            json.dump({"boot": self._boot(), "before": before}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, self._path)

    def _boot(self) -> str:
        try:
            with open(os.path.join(self.root, "proc/sys/kernel/random/boot_id"), encoding="utf-8") as file:
                return file.read().strip()
        except OSError:
            return ""
