"""A file that behaves like /dev/i2c-N: a FUSE server in plain Python whose ioctls reach chips written in Python.

The kernel hands an ioctl on a FUSE file to the server with the caller's pointer, not with what it points at. The
server follows the pointers into the caller's memory (process_vm_readv, process_vm_writev), so unmodified programs, by
plain ioctl or by smbus2, find their messages answered. Numbers: linux/fuse.h, linux/i2c.h, linux/i2c-dev.h.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import struct
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

_FORGET, _GETATTR, _SETATTR, _OPEN = 2, 3, 4, 14
_RELEASE, _FLUSH, _INIT, _INTERRUPT, _IOCTL = 18, 25, 26, 36, 39
_SILENT = (_FORGET, _INTERRUPT)
_HEADER = struct.Struct("=IIQQIIII")  # len, opcode, unique, node, uid, gid, pid, padding
_OUT = struct.Struct("=IiQ")  # len, error, unique
_REGULAR_FILE = 0o100666
_ATTRIBUTES = struct.pack("=QII6Q10I", 60, 0, 0, 1, *(0,) * 8, _REGULAR_FILE, 1, 0, 0, 0, 4096, 0)
_FIXED = {
    _INIT: struct.pack("=IIIIHHIIHHI28x", 7, 31, 0, 0, 12, 9, 1 << 16, 1, 0, 0, 0),
    _GETATTR: _ATTRIBUTES,
    _SETATTR: _ATTRIBUTES,
    _FLUSH: b"",
}

_I2C_SLAVE, _I2C_SLAVE_FORCE, _I2C_FUNCS, _I2C_RDWR, _I2C_SMBUS = 0x0703, 0x0706, 0x0705, 0x0707, 0x0720
_I2C_M_RD = 0x0001
_FUNCTIONS = 0x0EFF0009  # plain I2C and every SMBus transfer without a checksum
_BYTE_DATA, _WORD_DATA, _BLOCK_DATA = 2, 3, 8

_SOURCE = "i2c"
"""What these files are mounted from, as /proc/mounts has it."""

_libc = ctypes.CDLL(None, use_errno=True)


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class Chip(Protocol):
    """What sits on the bus at one address; raises OSError to fail a transfer."""

    def write(self, data: bytes) -> None:
        """Take what the master sends."""

    def read(self, length: int) -> bytes:
        """Give what the master asks for."""


def missing() -> str | None:
    """Return why no such file can be served here."""
    if os.geteuid() != 0:
        return "needs root, to mount a file system"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "needs /dev/fuse"
    return None


class I2cFile:
    """An I2C adapter's device file at ``path``, with ``chips`` by address; a context manager."""

    def __init__(self, path: Path, chips: Mapping[int, Chip]) -> None:
        self.path = path
        self.chips = dict(chips)
        self.driver_bound: set[int] = set()
        """Addresses that a kernel driver holds: EBUSY for everybody else."""
        self._chosen: dict[int, int] = {}
        self._handles = 0
        self._fd = -1
        self._stop = os.eventfd(0)
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> I2cFile:
        _unmount_dead()
        self.path.touch()
        self._fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        options = f"fd={self._fd},rootmode={_REGULAR_FILE:o},user_id=0,group_id=0,allow_other"
        try:
            _checked(_libc.mount(_SOURCE.encode(), bytes(self.path), b"fuse", 0, options.encode()))
        except OSError:
            os.close(self._fd)
            raise
        self._thread.start()  # not before: until it is mounted, nothing can be read from /dev/fuse
        return self

    def __exit__(self, *_: object) -> None:
        _unmount(self.path)
        os.eventfd_write(self._stop, 1)
        self._thread.join()
        os.close(self._fd)
        os.close(self._stop)

    # ------------------------------------------------------------ FUSE

    def _serve(self) -> None:
        while True:
            ready = select.select([self._fd, self._stop], [], [])[0]
            if self._stop in ready:
                return
            try:
                request = os.read(self._fd, 1 << 17)
            except OSError as e:
                if e.errno in (errno.EINTR, errno.ENOENT, errno.EAGAIN):  # the caller gave up meanwhile
                    continue
                return  # unmounted
            self._answer(request)

    def _answer(self, request: bytes) -> None:
        head = _HEADER.unpack_from(request)
        opcode, unique, pid = head[1], head[2], head[6]
        if opcode in _SILENT:
            return
        failure, answer = 0, b""
        try:
            answer = self._reply(opcode, pid, request[_HEADER.size :])
        except OSError as e:
            failure = -(e.errno or errno.EIO)
        with contextlib.suppress(OSError):  # the caller was killed while it waited
            os.write(self._fd, _OUT.pack(_OUT.size + len(answer), failure, unique) + answer)

    def _reply(self, opcode: int, pid: int, body: bytes) -> bytes:
        if opcode in _FIXED:
            return _FIXED[opcode]
        if opcode == _OPEN:
            self._handles += 1
            return struct.pack("=QII", self._handles, 0, 0)
        if opcode == _RELEASE:
            self._chosen.pop(struct.unpack_from("=Q", body)[0], None)
            return b""
        if opcode == _IOCTL:
            return struct.pack("=iIII", self._ioctl(Memory(pid), body), 0, 0, 0)
        raise OSError(errno.ENOSYS, "not served")

    # ------------------------------------------------------------ ioctl

    def _ioctl(self, caller: Memory, body: bytes) -> int:
        handle, _, command, argument = struct.unpack_from("=QIIQ", body)
        if command in (_I2C_SLAVE, _I2C_SLAVE_FORCE):
            if command == _I2C_SLAVE and argument in self.driver_bound:
                raise OSError(errno.EBUSY, "held by a driver")
            self._chosen[handle] = argument
        elif command == _I2C_FUNCS:
            caller.write(argument, struct.pack("=I", _FUNCTIONS))
        elif command == _I2C_RDWR:
            return self._transfer(caller, argument)
        elif command == _I2C_SMBUS:
            self._smbus(caller, argument, self._chosen.get(handle, -1))
        else:
            raise OSError(errno.ENOTTY, "no such ioctl")
        return 0

    def _transfer(self, caller: Memory, pointer: int) -> int:
        messages, count = struct.unpack("=QI", caller.read(pointer, 12))
        for i in range(count):
            address, flags, length, buffer = struct.unpack("=HHHxxQ", caller.read(messages + 16 * i, 16))
            chip = self._chip(address)
            if flags & _I2C_M_RD:
                caller.write(buffer, chip.read(length))
            else:
                chip.write(caller.read(buffer, length))
        return count

    def _smbus(self, caller: Memory, pointer: int, address: int) -> None:
        reading, register, size, data = struct.unpack("=BBxxIQ", caller.read(pointer, 16))
        chip = self._chip(address)
        if size == _BLOCK_DATA:
            length = caller.read(data, 1)[0]
            at = data + 1
        else:
            length, at = {_BYTE_DATA: 1, _WORD_DATA: 2}[size], data
        if reading:
            chip.write(bytes([register]))
            caller.write(
                at, chip.read(length)
            )  # a word's first byte comes to lie lowest: SMBus swaps this chip's words
        else:
            chip.write(bytes([register]) + caller.read(at, length))

    def _chip(self, address: int) -> Chip:
        if address not in self.chips:
            raise OSError(errno.EREMOTEIO, "no acknowledge")
        return self.chips[address]


class Memory:
    """The memory of the process that waits in an ioctl."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def read(self, address: int, length: int) -> bytes:
        """Return ``length`` bytes."""
        buffer = ctypes.create_string_buffer(length)
        self._move(_libc.process_vm_readv, buffer, address)
        return buffer.raw

    def write(self, address: int, data: bytes) -> None:
        """Put ``data`` there."""
        self._move(_libc.process_vm_writev, ctypes.create_string_buffer(data, len(data)), address)

    def _move(self, call: Callable[..., int], buffer: ctypes.Array[ctypes.c_char], address: int) -> None:
        here = _Iovec(ctypes.addressof(buffer), len(buffer))
        there = _Iovec(address, len(buffer))
        moved = call(self._pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0)
        if moved != len(buffer):
            raise OSError(errno.EFAULT, "the caller's memory could not be reached")


def _checked(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _unmount(path: Path) -> None:
    _libc.umount2(bytes(path), 2)  # MNT_DETACH


def _unmount_dead() -> None:
    """Unmount the files of servers that were killed: nobody could delete the folders that hold them."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        source, path, kind, *_ = line.split(" ")
        if (source, kind) == (_SOURCE, "fuse") and _is_dead(Path(path)):
            _unmount(Path(path))


def _is_dead(path: Path) -> bool:
    try:
        path.stat()
    except OSError as e:
        return e.errno == errno.ENOTCONN
    return False
