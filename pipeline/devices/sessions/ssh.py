"""SSH session: discovers the board, uploads the agent, runs it on one channel; files go by SFTP."""

from __future__ import annotations

import contextlib
import logging
import shlex
import struct
import uuid
from collections.abc import Iterator
from pathlib import Path

import paramiko
from paramiko.sftp import SFTPError

from pipeline.devices.sessions import MAX_LINE_BYTES, OnLine, Zipapp, discovery, login_shell
from pipeline.devices.sessions.deadline import left_s, output_of, within
from pipeline.devices.sessions.line_protocol import Conversation, last_lines
from pipeline.devices.sessions.ssh_connection import connect
from pipeline.devices.sessions.ssh_errors import FOREIGN, talking
from pipeline.errors import AgentError, DiskFullError
from pipeline.records import Device

log = logging.getLogger(__name__)

_CHUNK_BYTES = 1 << 16
_WINDOW_CHUNKS = 64
_SFTP_S = 60.0
"""Longest wait for one SFTP answer, not for a whole file."""
_SFTP_HELLO_S = 20.0
_GRACE_S = 1.0
"""A login shell that prints for so long is reported as such before the connection is ended."""
_SLOWEST_BYTES_A_SECOND = 10_000
"""A link that is slower than 80 kbit/s is no way to a board."""
_PROBE_S = 60.0
"""A Raspberry Pi that starts Python from a cold SD card takes seconds."""
_SFTP_SERVERS: tuple[str, ...] = (
    "/usr/lib/openssh/sftp-server",
    "/usr/libexec/openssh/sftp-server",
    "/usr/lib/ssh/sftp-server",
    "/usr/libexec/sftp-server",
    "/usr/lib/sftp-server",
)
"""Where Debian, Fedora, Arch and Alpine, macOS and FreeBSD, and OpenWrt keep it."""


class SshSession:
    """One connection, one agent, one folder of files on the board."""

    def __init__(self, device: Device, zipapp: Zipapp) -> None:
        if device.ssh is None:
            raise ValueError(f"{device.name} has no SSH address")
        self._device = device
        self._name = device.name
        self._quiet = True
        self._link = connect(device.ssh, device.name)
        try:
            self._board = self._bring(zipapp)
            self._channel = self._start(zipapp)
        except BaseException:
            self._link.close()
            raise
        self._stderr = bytearray()
        self._talk = Conversation(self._name, self._send, self._receive, self._last_words)

    def put(self, source: bytes | Path, name: str) -> int:
        """See ``Session.put``."""
        content = source if isinstance(source, bytes) else source.read_bytes()
        return self._put(content, f"{self._board.folder}/files", name)

    def exchange(self, line: bytes, deadline_s: float, on_line: OnLine, max_bytes: int = MAX_LINE_BYTES) -> None:
        """See ``Session.exchange``."""
        with talking(self._name):
            self._talk.exchange(line, deadline_s, on_line, max_bytes)

    def close(self) -> None:
        """See ``Session.close``: the agent sees the end of its stdin and goes."""
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            self._channel.shutdown_write()
            self._channel.close()
        self._link.close()

    def _bring(self, zipapp: Zipapp) -> discovery.Board:
        """Upload the agent unless it is there, checked by its sha256 on the board."""
        board = self._probe(zipapp)
        if board.agent_sha256 == zipapp.sha256:
            return board
        self._board = board
        if board.agent_sha256:
            log.warning("%s: the agent's file is damaged, sending it again", self._name)
            self._remove(f"{board.folder}/{zipapp.name}")
        self._put(zipapp.content, board.folder, zipapp.name)
        arrived = self._probe(zipapp)
        if arrived.agent_sha256 != zipapp.sha256:
            raise AgentError(f"{self._name}: the agent arrived damaged in {board.folder}; is the board's disk failing?")
        return arrived

    def _probe(self, zipapp: Zipapp) -> discovery.Board:
        status, out, err = self._run(discovery.script(self._device, zipapp.name), _PROBE_S)
        return discovery.parse(self._device, status, out, err)

    def _start(self, zipapp: Zipapp) -> paramiko.Channel:
        words = zipapp.command(self._board.python, self._board.folder)
        with talking(self._name), within(self._link, _PROBE_S + _GRACE_S, self._name, "starting the agent"):
            channel = self._link.transport.open_session(timeout=_SFTP_S)
            login_shell.enter(channel, login_shell.LINE, _PROBE_S, self._name)
            channel.sendall(f"echo {login_shell.MARK.decode().strip()}; exec {shlex.join(words)}\n".encode())
            # or a session that is closed at once takes the line along:
            login_shell.await_mark(channel, _PROBE_S, self._name)
            return channel

    def _run(self, script: str, seconds: float) -> tuple[int, str, str]:
        """Run one short shell script; return its status, and the end of its output and of its errors."""
        with talking(self._name), within(self._link, seconds + _GRACE_S, self._name, "the first look at the board"):
            channel = self._link.transport.open_session(timeout=seconds)
            with contextlib.closing(channel):
                try:
                    self._quiet = login_shell.enter(channel, login_shell.SCRIPT, seconds, self._name)
                except EOFError as said:
                    return channel.recv_exit_status(), "", str(said)
                channel.sendall(script.encode())
                channel.shutdown_write()
                out, err = output_of(channel, self._name)
                return channel.recv_exit_status(), out.decode("utf-8", "replace"), err.decode("utf-8", "replace")

    def _put(self, content: bytes, folder: str, name: str) -> int:
        """Upload under a passing name, then rename: a name never stands for half a file."""
        target, part = f"{folder}/{name}", f"{folder}/.part-{uuid.uuid4().hex}"
        seconds = _SFTP_S + len(content) / _SLOWEST_BYTES_A_SECOND
        with talking(self._name), within(self._link, seconds, self._name, f"sending {name}"), self._sftp() as sftp:
            if _size(sftp, target) == len(content):
                return 0
            try:
                with sftp.file(part, "wb") as f:
                    f.chmod(0o600)  # under a strange umask the agent could not read it
                    f.set_pipelined(True)
                    f.write(content)
                if _size(sftp, part) != len(content):
                    raise OSError("the file arrived short")
                sftp.posix_rename(part, target)
            except OSError as e:
                raise self._not_written(e, sftp, part, target, len(content)) from e
            return len(content)

    @contextlib.contextmanager
    def _sftp(self) -> Iterator[paramiko.SFTPClient]:
        with contextlib.closing(self._open_sftp()) as sftp:
            yield sftp

    def _open_sftp(self) -> paramiko.SFTPClient:
        """Ask sshd for SFTP; behind a login shell that prints, run its server as we run the agent, past the noise."""
        ways = (self._subsystem, self._server_of_ours)
        first, second = ways if self._quiet else reversed(ways)
        try:
            return first()
        except FOREIGN as why:
            if not self._link.transport.is_active():
                raise
            try:
                return second()
            except FOREIGN as also_why:
                raise (why if self._quiet else also_why) from None  # what sshd's own way lacks is what to fix

    def _subsystem(self) -> paramiko.SFTPClient:
        channel = self._link.transport.open_session(timeout=_SFTP_S)
        channel.settimeout(_SFTP_HELLO_S)
        channel.invoke_subsystem("sftp")
        return _sftp_over(channel)

    def _server_of_ours(self) -> paramiko.SFTPClient:
        channel = self._link.transport.open_session(timeout=_SFTP_S)
        login_shell.enter(channel, login_shell.LINE, _SFTP_S, self._name)
        tries = [f"[ -x {path} ] && exec {path} 2>/dev/null" for path in _SFTP_SERVERS]
        channel.sendall(("; ".join(tries) + "\n").encode())
        channel.settimeout(_SFTP_S)
        return _sftp_over(channel)

    def _not_written(self, error: OSError, sftp: paramiko.SFTPClient, part: str, target: str, size: int) -> Exception:
        """Return why an upload failed, having removed what there is of it.

        SFTP version 3 has no word for a full disk, only "Failure": what is free has to be asked.
        """
        if isinstance(error, TimeoutError) or not self._link.transport.is_active():
            return error
        free = self._free_bytes()
        with contextlib.suppress(OSError):
            sftp.remove(part)
        if free < size:
            return DiskFullError(
                f"{self._name}: no room for {target}: it takes {size} B, {free} B are free;"
                f" make room, or set agent: dir to another disk"
            )
        return AgentError(f"{self._name}: cannot write {target}: {error}")

    def _free_bytes(self) -> int:
        _, out, _ = self._run(f"df -Pk {shlex.quote(self._board.folder)}\n", _PROBE_S)
        return discovery.free_bytes(out)

    def _remove(self, path: str) -> None:
        with talking(self._name), within(self._link, _SFTP_S, self._name, "removing a file"), self._sftp() as sftp:
            sftp.remove(path)

    def _send(self, line: bytes, until: float) -> None:
        view = memoryview(line)
        while view:
            self._channel.settimeout(left_s(until))
            view = view[self._channel.send(bytes(view[:_CHUNK_BYTES])) :]

    def _receive(self, until: float) -> bytes:
        """Wait for the agent's stdout; its stderr is drained meanwhile, for a full window would stop both."""
        while True:
            self._drain_stderr()
            self._channel.settimeout(min(1.0, left_s(until)))
            with contextlib.suppress(TimeoutError):
                return self._channel.recv(_CHUNK_BYTES)

    def _drain_stderr(self) -> None:
        """Take what stderr holds now, a window's worth at most: it may be filled as fast as it is drained."""
        for _ in range(_WINDOW_CHUNKS):
            if not self._channel.recv_stderr_ready():
                return
            self._stderr += self._channel.recv_stderr(_CHUNK_BYTES)
            del self._stderr[:-_CHUNK_BYTES]

    def _last_words(self) -> str:
        with contextlib.suppress(OSError, EOFError):
            self._drain_stderr()
        return last_lines(bytes(self._stderr))


def _sftp_over(channel: paramiko.Channel) -> paramiko.SFTPClient:
    """Begin SFTP on a channel; what is no SFTP server raises SFTPError, also where paramiko trips over it."""
    try:
        sftp = paramiko.SFTPClient(channel)
    except (IndexError, struct.error) as e:
        raise SFTPError("Garbage packet received") from e
    channel.settimeout(_SFTP_S)
    return sftp


def _size(sftp: paramiko.SFTPClient, path: str) -> int:
    """Return a file's size, -1 where there is none."""
    try:
        return sftp.stat(path).st_size or 0
    except FileNotFoundError:
        return -1
