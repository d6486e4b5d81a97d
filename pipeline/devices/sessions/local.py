"""The agent as a child process on this machine: the same zipapp, the same wire, no SSH."""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import psutil

from device_agents.folder import FolderError, secure
from pipeline.devices.sessions import MAX_LINE_BYTES, OnLine, Zipapp
from pipeline.devices.sessions.line_protocol import Conversation, last_lines
from pipeline.errors import AgentError, DiskFullError, PythonMissingError
from pipeline.records import Device

_CHUNK_BYTES = 1 << 16
_GOODBYE_S = 2.0


class LocalSession:
    """Starts the agent in its own process group; it ends when our end of its stdin closes, however we end."""

    def __init__(self, device: Device, zipapp: Zipapp) -> None:
        self._name = device.name
        self._folder = Path(device.agent_dir).expanduser()
        self._files = self._folder / "files"
        self._make_folder()
        agent = self._folder / zipapp.name
        if not _holds(agent, zipapp.content):
            self._write(zipapp.content, agent)
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        python = sys.executable if device.python == "auto" else str(Path(device.python).expanduser())
        self._process = self._start(zipapp.command(python, str(self._folder)))
        self._out = self._process.stdout.fileno() if self._process.stdout else -1
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._out, selectors.EVENT_READ)
        self._talk = Conversation(self._name, self._send, self._receive, self._last_words)

    def put(self, source: bytes | Path, name: str) -> int:
        """See ``Session.put``."""
        target = self._files / name
        size = len(source) if isinstance(source, bytes) else source.stat().st_size
        if target.exists() and target.stat().st_size == size:
            return 0
        self._make_folder()
        self._write(source, target)
        return size

    def exchange(self, line: bytes, deadline_s: float, on_line: OnLine, max_bytes: int = MAX_LINE_BYTES) -> None:
        """See ``Session.exchange``."""
        self._talk.exchange(line, deadline_s, on_line, max_bytes)

    def close(self) -> None:
        """See ``Session.close``: a closed stdin is the request to end; after two seconds it is no request."""
        if self._process.stdin:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        try:
            self._process.wait(_GOODBYE_S)
        except subprocess.TimeoutExpired:
            self._kill()
        if self._process.stdout and not self._process.stdout.closed:
            self._selector.close()
            self._process.stdout.close()
            self._stderr.close()

    def _make_folder(self) -> None:
        try:
            secure(str(self._folder))
            secure(str(self._files))
        except FolderError as e:
            raise AgentError(f"{self._name}: cannot use the agent's folder: {e}; or set agent: dir") from e
        except OSError as e:
            raise AgentError(f"{self._name}: cannot make the agent's folder {self._files}: {e.strerror}") from e

    def _write(self, source: bytes | Path, target: Path) -> None:
        part = target.with_name(f".part-{uuid.uuid4().hex}")
        try:
            if isinstance(source, bytes):
                part.write_bytes(source)
            else:
                shutil.copyfile(source, part)
            part.chmod(0o600)
            part.replace(target)
        except OSError as e:
            part.unlink(missing_ok=True)
            if e.errno in (errno.ENOSPC, errno.EDQUOT):
                free = shutil.disk_usage(self._folder).free
                raise DiskFullError(f"{self._name}: no room for {target.name} in {target.parent}: {free} B free") from e
            raise AgentError(f"{self._name}: cannot write {target}: {e.strerror}") from e

    def _start(self, command: list[str]) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                start_new_session=True,
            )
        except OSError as e:
            self._stderr.close()
            raise PythonMissingError(
                f"{self._name}: cannot run {command[0]}: {e.strerror}; set `agent: {{python: auto}}`"
            ) from e

    def _send(self, line: bytes, until: float) -> None:
        stdin = self._process.stdin
        if stdin is None or stdin.closed:
            raise EOFError("the session is closed")
        os.set_blocking(stdin.fileno(), False)
        view = memoryview(line)
        with selectors.DefaultSelector() as writable:
            writable.register(stdin.fileno(), selectors.EVENT_WRITE)
            while view:
                if not writable.select(max(0.0, until - time.monotonic())):
                    raise TimeoutError
                with contextlib.suppress(BlockingIOError):
                    view = view[os.write(stdin.fileno(), view) :]

    def _receive(self, until: float) -> bytes:
        if not self._selector.select(max(0.0, until - time.monotonic())):
            raise TimeoutError
        return os.read(self._out, _CHUNK_BYTES)

    def _last_words(self) -> str:
        if self._stderr.closed:
            return ""
        size = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, size - _CHUNK_BYTES))
        return last_lines(self._stderr.read(_CHUNK_BYTES))

    def _kill(self) -> None:
        """Kill the agent and all that it started, in whatever session; a watchdog still has to restore power modes."""
        family = [psutil.Process(self._process.pid)]
        with contextlib.suppress(psutil.Error):
            family += family[0].children(recursive=True)
        for process in family:
            with contextlib.suppress(psutil.Error):
                if process.cmdline()[-1:] != ["watchdog"]:
                    process.kill()
        self._process.wait()


def _holds(path: Path, content: bytes) -> bool:
    """Whether an ordinary file of this content lies there; what is none is moved out of the way."""
    if path.is_dir() and not path.is_symlink():
        path.rename(path.with_name(f"{path.name}.part-{uuid.uuid4().hex}"))
    elif path.is_symlink() or (path.exists() and not path.is_file()):
        path.unlink()
    return path.exists() and path.stat().st_size == len(content) and path.read_bytes() == content
