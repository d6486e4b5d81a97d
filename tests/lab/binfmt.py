"""The kernel runs aarch64 programs by qemu-user; an entry that the machine lacks is made, and taken away at the end."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

QEMU = "qemu-aarch64-static"
FORMAT = Path("/usr/lib/binfmt.d/qemu-aarch64.conf")
_MOUNTED = Path("/proc/sys/fs/binfmt_misc")
_OWN = "pipeline-lab-aarch64"


def missing() -> str | None:
    """Say why aarch64 programs cannot be run here, or None."""
    if os.geteuid() != 0:
        return "not root: mounting a board's file system needs it"
    if not shutil.which(QEMU) or not FORMAT.exists():
        return f"no {QEMU}: apt-get install qemu-user-static"
    if not _MOUNTED.is_dir():
        return "the kernel has no binfmt_misc, so it cannot run aarch64 programs by qemu-user"
    return None


@contextlib.contextmanager
def registered() -> Iterator[None]:
    """Have aarch64 programs run for as long as this lasts; flag F keeps qemu open, so that a chroot needs none."""
    mounted = not (_MOUNTED / "register").exists()
    if mounted:
        subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", str(_MOUNTED)], check=True)
    wanted = not any(_opens_early(_MOUNTED / name) for name in ("qemu-aarch64", _OWN))
    try:
        if wanted:
            _, _, rest = FORMAT.read_text().strip().split(":", 2)
            (_MOUNTED / "register").write_bytes(f":{_OWN}:{rest}".encode())
        yield
    finally:
        if wanted:
            with contextlib.suppress(OSError):
                (_MOUNTED / _OWN).write_text("-1")
        if mounted:
            subprocess.run(["umount", str(_MOUNTED)], check=False)


def _opens_early(entry: Path) -> bool:
    """Whether an entry is enabled and keeps its interpreter open (flag F)."""
    text = entry.read_text() if entry.exists() else ""
    return "enabled" in text and "F" in text.partition("flags:")[2].partition("\n")[0]
