"""One chip on the kernel's raw I2C device, /dev/i2c-N, by plain ioctl: no library is needed on the board."""

import ctypes
import errno
import fcntl
import os
from typing import Any, Dict, List, NamedTuple, Tuple

from device_agents.power import SensorError

_I2C_SLAVE, _I2C_RDWR, _I2C_M_RD = 0x0703, 0x0707, 0x0001  # linux/i2c-dev.h, linux/i2c.h


class _Message(ctypes.Structure):
    """struct i2c_msg."""

    _fields_ = (
        ("address", ctypes.c_uint16),
        ("flags", ctypes.c_uint16),
        ("length", ctypes.c_uint16),
        ("buffer", ctypes.POINTER(ctypes.c_char)),
    )


class _Transfer(ctypes.Structure):
    """struct i2c_rdwr_ioctl_data."""

    _fields_ = (("messages", ctypes.POINTER(_Message)), ("count", ctypes.c_uint32))


class _Read(NamedTuple):
    """A transfer, the buffers that its answers come to lie in, and the messages, which keep all buffers alive."""

    transfer: _Transfer
    answers: List[Any]
    messages: List[_Message]


class I2cBus:
    """A chip with registers of 16 bits, most significant byte first."""

    def __init__(self, bus: int, address: int) -> None:
        self._path = "/dev/i2c-%d" % bus
        self._bus = bus
        self._address = address
        self._fd = -1
        self._reads: Dict[Tuple[int, ...], _Read] = {}
        """By registers; made once, since this runs beside what is measured."""
        try:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
            fcntl.ioctl(self._fd, _I2C_SLAVE, address)  # refused while a kernel driver holds the chip
        except OSError as error:
            self.close()
            raise self._explained(error)

    def read_words(self, *registers: int) -> List[int]:
        """Return the registers' 16 bits each, read in this order in one transfer that nobody can come between."""
        if registers not in self._reads:
            self._reads[registers] = self._read(registers)
        read = self._reads[registers]
        self._do(read.transfer)
        return [int.from_bytes(answer.raw, "big") for answer in read.answers]

    def write_word(self, register: int, value: int) -> None:
        """Set a register's 16 bits."""
        data = bytes([register]) + value.to_bytes(2, "big")
        self._do(_transfer([self._message(0, ctypes.create_string_buffer(data, 3))]))

    def close(self) -> None:
        """Close the device."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _read(self, registers: Tuple[int, ...]) -> "_Read":
        """Return the transfer that reads these registers."""
        answers = [ctypes.create_string_buffer(2) for _ in registers]
        messages = []
        for register, answer in zip(registers, answers):
            messages.append(self._message(0, ctypes.create_string_buffer(bytes([register]), 1)))
            messages.append(self._message(_I2C_M_RD, answer))
        return _Read(_transfer(messages), answers, messages)

    def _message(self, flags: int, data: "ctypes.Array[ctypes.c_char]") -> _Message:
        return _Message(self._address, flags, len(data), ctypes.cast(data, ctypes.POINTER(ctypes.c_char)))

    def _do(self, transfer: _Transfer) -> None:
        try:
            fcntl.ioctl(self._fd, _I2C_RDWR, transfer)
        except OSError as error:
            raise self._explained(error)

    def _explained(self, error: OSError) -> SensorError:
        return SensorError(explain(error, self._path, self._bus, self._address))


def _transfer(messages: List[_Message]) -> _Transfer:
    return _Transfer((_Message * len(messages))(*messages), len(messages))


def explain(error: OSError, path: str, bus: int, address: int) -> str:
    """Return in words why the chip cannot be reached, and the mend."""
    if error.errno == errno.ENOENT:
        return "%s is missing: switch I2C on (sudo raspi-config nonint do_i2c 0) and reboot" % path
    if error.errno in (errno.EACCES, errno.EPERM):
        return "no permission for %s: sudo usermod -aG i2c $USER, then log in again" % path
    if error.errno == errno.EBUSY:
        device = "%d-%04x" % (bus, address)
        return (
            "a kernel driver holds the chip at 0x%02x on bus %d: write `backend: hwmon` to read it through the driver, "
            "or free it: echo %s | sudo tee /sys/bus/i2c/devices/%s/driver/unbind" % (address, bus, device, device)
        )
    if error.errno in (errno.EREMOTEIO, errno.ENXIO):
        return "no chip answers at 0x%02x on bus %d: check wiring and address with i2cdetect -y %d" % (
            address,
            bus,
            bus,
        )
    return "I2C transfer with 0x%02x on %s failed: %s" % (address, path, error)
