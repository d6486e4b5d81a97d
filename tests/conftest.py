"""What several tests stand on: a real OpenSSH server on loopback that plays the board."""

from __future__ import annotations

import contextlib
import getpass
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

# Before torch is imported. Two processes test on two cores: with two threads each, they wait for each other, many times
# as long as they compute.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as the command line does; some tests ask for two threads

from pipeline.records import Device, MeasureSettings, SshAddress

LONGEST = ("lab", "documents", "cli")
"""The folders that take minutes with few tests, the longest first."""
WAITING = ("tests/lab/", "tests/device_agents/", "tests/pipeline/devices/")
"""The folders whose tests wait for servers, sensors and deadlines, and hardly compute."""
COMPUTING = 2
"""How many of the processes of ``pytest -n`` compute rather than wait."""
EMULATED = ("tests/lab/test_arm64_machine.py", "tests/lab/test_arm64_userland.py")
"""What computes on boards whose every instruction is translated: one after the other, from one system."""


def pytest_configure() -> None:
    """Start programs as a terminal does: behind a shell's ``&`` they ignore Ctrl-C, behind ``nohup`` a hang-up."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: None)  # survived as before, and not inherited


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that at the end no process has minutes left alone."""
    items.sort(key=lambda item: [folder not in item.path.parts for folder in LONGEST])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Under ``pytest -n 3`` a file's tests stay together, and so do those of both emulated boards.

    Two processes begin with what computes, as many as there are cores; the others begin with what waits.
    """
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "emulated boards" if nodeid.startswith(EMULATED) else str(super()._split_scope(nodeid))

        def _assign_work_unit(self, node: Any) -> None:
            waits = self.nodes.index(node) >= COMPUTING
            fitting = (scope for scope in self.workqueue if scope.startswith(WAITING) == waits)
            if (first := next(fitting, None)) is not None:
                self.workqueue.move_to_end(first, last=False)
            super()._assign_work_unit(node)

    config.option.loadscopereorder = False  # by the number of tests: those that take longest would come last
    return Scheduling(config, log)


SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


PORTS_A_PROCESS = 500
_ports = itertools.count(os.getpid())


def free_port() -> int:
    """Return a port that nobody else takes before it is used: of this process of ``pytest -n`` alone, and below those
    that the kernel gives to whoever asks for any."""
    first = 20_000 + PORTS_A_PROCESS * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    for offset in itertools.islice(_ports, PORTS_A_PROCESS):
        port = first + offset % PORTS_A_PROCESS
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise RuntimeError(f"no port is free from {first} on")


def new_key(path: Path) -> str:
    """Make an Ed25519 key pair; return its SHA256 fingerprint."""
    for old in (path, path.with_suffix(".pub")):
        old.unlink(missing_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    listed = subprocess.run(["ssh-keygen", "-lf", str(path)], check=True, capture_output=True, text=True)
    return listed.stdout.split()[1]


class Sshd:
    """OpenSSH's server on 127.0.0.1 with keys of its own; ``options`` are lines for its config."""

    def __init__(self, folder: Path, options: tuple[str, ...] = ()) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = free_port()
        self.options = options
        self.identity = folder / "client_key"
        self.known_hosts = folder / "known_hosts"
        new_key(self.identity)
        shutil.copy(f"{self.identity}.pub", folder / "authorized_keys")
        self.fingerprint = new_key(folder / "host_key")
        self.trust()
        self.environment = {"PIPELINE_LOCK_DIR": os.environ["PIPELINE_LOCK_DIR"]}
        """What everybody who logs in finds in the environment."""
        self.reads_rc = False
        """Whether a login's bash reads ~/.bashrc, as sshd has it do; what this machine's user has there takes time."""
        self.program = [str(SSHD)]
        self._process: subprocess.Popen[bytes] | None = None
        self._was_up = False

    def start(self) -> Sshd:
        self._launch()
        until = time.monotonic() + 60
        while time.monotonic() < until:
            assert self._process is not None
            if self._process.poll() is not None:  # somebody has the port: another test, or a child of the last server
                self.port = self.port if self._was_up else free_port()
                self._launch()
            elif self._answers():
                self._was_up = True
                return self
            time.sleep(0.02)
        raise RuntimeError((self.folder / "sshd.log").read_text())

    def _launch(self) -> None:
        config = self.folder / "sshd_config"
        lines = (
            f"Port {self.port}",
            "ListenAddress 127.0.0.1",
            f"HostKey {self.folder}/host_key",
            f"AuthorizedKeysFile {self.folder}/authorized_keys",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "UsePAM no",
            "StrictModes no",
            "PidFile none",
            "PermitRootLogin prohibit-password",
            *self._options(),
            *([] if any(line.startswith("Subsystem") for line in self.options) else ["Subsystem sftp internal-sftp"]),
        )
        config.write_text("\n".join(lines) + "\n")
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        log = (self.folder / "sshd.log").open("ab")
        self._process = subprocess.Popen([*self.program, "-D", "-e", "-f", str(config)], stderr=log)
        log.close()

    def _answers(self) -> bool:
        """Return whether this server greets; a dead one's children take connections and say nothing."""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as probe:
            return probe.recv(4) == b"SSH-" and self._process is not None and self._process.poll() is None
        return False

    def _options(self) -> list[str]:
        """Return the extra lines, with all that is to be set in the environment on one: sshd reads only the first."""
        settings = [line.partition(" ")[2] for line in self.options if line.startswith("SetEnv ")]
        settings += [f"{name}={value}" for name, value in self.environment.items()]
        settings += [] if self.reads_rc else ["SHLVL=1"]  # as within another shell
        others = [line for line in self.options if not line.startswith("SetEnv ")]
        return [*(["SetEnv " + " ".join(settings)] if settings else []), *others]

    def stop(self) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def change_host_key(self) -> str:
        """Show another host key from now on; return its fingerprint."""
        self.stop()
        self.fingerprint = new_key(self.folder / "host_key")
        self.start()
        return self.fingerprint

    def trust(self, port: int | None = None) -> None:
        """Write the host key into ``known_hosts``."""
        kind, key = (self.folder / "host_key.pub").read_text().split()[:2]
        with self.known_hosts.open("a") as f:
            f.write(f"[127.0.0.1]:{port or self.port} {kind} {key}\n")

    def address(self, **changes: Any) -> SshAddress:
        address = SshAddress(
            host="127.0.0.1",
            port=self.port,
            user=getpass.getuser(),
            identity_file=str(self.identity),
            known_hosts=str(self.known_hosts),
            connect_timeout_s=10.0,
        )
        return replace(address, **changes)

    def device(self, *, address: SshAddress | None = None, **changes: Any) -> Device:
        """A board behind this server: the null runtime, this python, its own folder, short measurements."""
        device = Device(
            name="board",
            kind="linux",
            ssh=address or self.address(),
            agent_dir=str(self.folder / "agent"),
            python=sys.executable,
            runtime="null",
            measure=MeasureSettings(
                warmup_s=0.05, min_s=0.4, max_s=1.0, block_s=0.02, timeout_s=60.0, max_background_cores=64
            ),
        )
        return replace(device, **changes)


class Proxy:
    """A TCP link on loopback that is cut, once, after so many bytes went towards the server."""

    def __init__(self, port: int, cut_after_bytes: int) -> None:
        self.port = free_port()
        self._target = port
        self._left = cut_after_bytes
        self.cuts = 0
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                try:
                    far = socket.create_connection(("127.0.0.1", self._target))
                except OSError:  # a server that is gone: the link is cut at once
                    near.close()
                    continue
                for source, sink, counted in ((near, far, True), (far, near, False)):
                    threading.Thread(target=self._pump, args=(source, sink, counted), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 14):
                if counted and not self.cuts:
                    self._left -= len(data)
                    if self._left < 0:
                        self.cuts += 1
                        break
                sink.sendall(data)
        for s in (source, sink):
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)
            s.close()


@pytest.fixture(scope="session", autouse=True)
def own_lock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Let these tests hold a board of their own: whatever else measures on this machine is not waited for."""
    folder = tmp_path_factory.mktemp("lock")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIPELINE_LOCK_DIR", str(folder))
        yield folder


@pytest.fixture(autouse=True)
def own_calibrations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each test begin with devices that nobody has calibrated, whatever this machine's user has."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


@pytest.fixture
def start_sshd(tmp_path: Path) -> Iterator[Callable[..., Sshd]]:
    """Start servers by ``start_sshd(*config_lines)``; they end with the test."""
    if SSHD is None:
        pytest.skip("OpenSSH's sshd is not installed: apt-get install openssh-server")
    servers: list[Sshd] = []

    def start(*options: str) -> Sshd:
        servers.append(Sshd(tmp_path / f"sshd{len(servers)}", options).start())
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def sshd(start_sshd: Callable[..., Sshd]) -> Sshd:
    """One server with nothing special."""
    return start_sshd()


@pytest.fixture
def start_proxy() -> Iterator[Callable[[int, int], Proxy]]:
    """Lay links by ``start_proxy(port, cut_after_bytes)``."""
    proxies: list[Proxy] = []

    def start(port: int, cut_after_bytes: int) -> Proxy:
        proxies.append(Proxy(port, cut_after_bytes))
        return proxies[-1]

    yield start
    for proxy in proxies:
        proxy.close()
