"""Debian's arm64 kernel, and the two drivers that it lacks: i2c-stub and ina2xx, cross-built from its own source."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.lab import cache, debian

COMPILER = "aarch64-linux-gnu-gcc"
NETWORK = (
    "drivers/virtio/virtio_pci_modern_dev", "drivers/virtio/virtio_pci_legacy_dev", "drivers/virtio/virtio_pci",
    "net/core/failover", "drivers/net/net_failover", "drivers/net/virtio_net",
)  # fmt: skip
"""Modules in the order in which they load."""
I2C = ("drivers/i2c/i2c-dev",)
BUILT = {"i2c-stub": "drivers/i2c/i2c-stub.c", "ina2xx": "drivers/hwmon/ina2xx.c"}


def missing() -> str | None:
    """Say why the kernel's drivers cannot be built here, or None."""
    for program, package in (
        (COMPILER, "gcc-aarch64-linux-gnu"),
        ("make", "make"),
        ("cpio", "cpio"),
        ("xz", "xz-utils"),
    ):
        if not shutil.which(program):
            return f"no {program}: apt-get install {package}"
    return debian.missing()


def arm64_kernel() -> Path:
    """Return a folder with ``vmlinuz`` and ``modules/*.ko``."""
    return cache.built("arm64-kernel", cache.sources("arm64_kernel.py", "debian.py"), _build)


def _build(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        board = debian.Packages(work / "arm64", "arm64")
        image = board.dependency("linux-image-arm64", r"linux-image-\S+-arm64")
        release = image.removeprefix("linux-image-")
        common = f"linux-headers-{release.removesuffix('-arm64')}-common"
        kernel, source, *headers = board.only([image, "linux-source-6.1", f"linux-headers-{release}", common])
        tools = debian.Packages(work / "host", _host_architecture()).only(["linux-kbuild-6.1"])
        for package in (*headers, *tools):
            debian.unpack(package, work)
        _take_kernel(kernel, release, work, folder)
        _take_source(source, work / "drivers")
        for module in _made(work, release):
            shutil.copy(module, folder / "modules")


def _host_architecture() -> str:
    return subprocess.run(["dpkg", "--print-architecture"], check=True, capture_output=True, text=True).stdout.strip()


def _take_kernel(package: Path, release: str, work: Path, folder: Path) -> None:
    modules = [f"./lib/modules/{release}/kernel/{name}.ko" for name in (*NETWORK, *I2C)]
    debian.unpack(package, work, f"./boot/vmlinuz-{release}", *modules)
    (folder / "modules").mkdir()
    shutil.copy(work / "boot" / f"vmlinuz-{release}", folder / "vmlinuz")
    for module in modules:
        shutil.copy(work / module, folder / "modules")


def _take_source(package: Path, folder: Path) -> None:
    """Take two files out of the kernel's source; reading ends where the second was found, after a third of it."""
    folder.mkdir()
    members = [f"linux-source-6.1/{path}" for path in BUILT.values()]
    chain = (
        f"dpkg-deb --fsys-tarfile {package} | tar -xO ./usr/src/linux-source-6.1.tar.xz | xz -dc"
        f" | tar -x --occurrence=1 --strip-components=3 -C {folder} {' '.join(members)}"
    )
    subprocess.run(["sh", "-c", chain], check=True, stderr=subprocess.DEVNULL)  # "broken pipe" is what is meant
    (folder / "Kbuild").write_text("obj-m := " + " ".join(f"{name}.o" for name in BUILT) + "\n")


def _made(work: Path, release: str) -> list[Path]:
    """Build the drivers against the unpacked headers, whose Makefile believes that it is installed."""
    headers = work / "usr/src" / f"linux-headers-{release}"
    makefile = headers / "Makefile"
    makefile.write_text(makefile.read_text().replace("/usr/src/", f"{work}/usr/src/"))
    built = subprocess.run(
        [
            *("make", "-C", str(headers), f"M={work / 'drivers'}", "ARCH=arm64", "CROSS_COMPILE=aarch64-linux-gnu-"),
            *(f"CC={COMPILER}", "modules"),
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    return [work / "drivers" / f"{name}.ko" for name in BUILT]
