"""A folder shaped like a board's /proc and /sys, and NVIDIA's programs as scripts that keep its state in files."""

from __future__ import annotations

from pathlib import Path

_NVPMODEL = """#!/bin/sh
# nvpmodel of JetPack 4.6: -q says the mode, -m N sets it.
case "$1" in
-q) echo "NV Fan Mode:quiet"; echo "NV Power Mode: $([ "$(cat ROOT/nvpmodel)" = 0 ] && echo MAXN || echo 5W)"
    cat ROOT/nvpmodel ;;
-m) case "$2" in 0|1) echo "$2" > ROOT/nvpmodel ;; *) echo "NVPM ERROR: invalid mode $2"; exit 1 ;; esac ;;
esac
"""

_JETSON_CLOCKS = """#!/bin/sh
# jetson_clocks: --store FILE remembers, no argument pins, --restore FILE puts back.
case "$1" in
--store) [ ! -e "$2" ] || { echo "File $2 already exists. Can I overwrite it? Y/N:"; exit 1; }
         cp ROOT/clocks "$2" ;;
--restore) cp "$2" ROOT/clocks ;;
"") echo pinned > ROOT/clocks ;;
*) exit 1 ;;
esac
"""


class FolderBoard:
    """Two cpufreq policies at ``ondemand``; with ``jetson``, a module in mode 1 whose clocks are not pinned."""

    def __init__(self, root: Path, *, jetson: bool = False) -> None:
        self.root = root
        self.programs = root / "bin"
        self.programs.mkdir(parents=True)
        for number in (0, 4):
            policy = root / f"sys/devices/system/cpu/cpufreq/policy{number}"
            policy.mkdir(parents=True)
            (policy / "scaling_governor").write_text("ondemand\n")
            (policy / "scaling_available_governors").write_text("conservative ondemand performance \n")
            (policy.parents[1] / f"cpu{number}").mkdir()
            (policy.parents[1] / f"cpu{number}/cpufreq").symlink_to(policy)
        self.boot("11111111")
        if jetson:
            (root / "nvpmodel").write_text("1\n")
            (root / "clocks").write_text("scaled\n")
            self.program("nvpmodel", _NVPMODEL)
            self.program("jetson_clocks", _JETSON_CLOCKS)

    def program(self, name: str, text: str) -> None:
        path = self.programs / name
        path.write_text(text.replace("ROOT", str(self.root)))
        path.chmod(0o755)

    def boot(self, number: str) -> None:
        """Start the board anew, as far as /proc says."""
        path = self.root / "proc/sys/kernel/random/boot_id"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(number + "\n")

    @property
    def governors(self) -> set[str]:
        return {path.read_text().strip() for path in self.root.glob("sys/**/scaling_governor")}

    @governors.setter
    def governors(self, governor: str) -> None:
        for path in self.root.glob("sys/**/scaling_governor"):
            path.write_text(governor + "\n")

    @property
    def nvpmodel(self) -> int:
        return int((self.root / "nvpmodel").read_text())

    @property
    def clocks(self) -> str:
        return (self.root / "clocks").read_text().strip()
