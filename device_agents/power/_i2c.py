"""One chip on the kernel's raw I2C device, /dev/i2c-N, by plain ioctl: no library is needed on the board."""

import array
import errno
import fcntl
import os
import struct
from typing import Dict, List, Tuple, Type

from device_agents.power import OddReadingError, SensorError

_I2C_SLAVE, _I2C_RDWR, _I2C_M_RD = 0x0703, 0x0707, 0x0001  # linux/i2c-dev.h, linux/i2c.h

# By hand: ctypes would add its memory to a process that stays beside whatever is measured.
_MESSAGE = struct.Struct("@HHHP")  # struct i2c_msg: address, flags, length, buffer
_TRANSFER = struct.Struct("@PI0P")  # struct i2c_rdwr_ioctl_data: messages, count


class _Transfer:
    """Messages to a chip, each (flags, bytes), that the kernel carries out as one; what it reads comes to ``buffers``.

    Keeps alive the memory whose addresses are in ``request``.
    """

    def __init__(self, address: int, messages: List[Tuple[int, bytes]]) -> None:
        self.buffers = [array.array("B", data) for _, data in messages]
        packed = [
            _MESSAGE.pack(address, flags, len(buffer), buffer.buffer_info()[0])
            for (flags, _), buffer in zip(messages, self.buffers)
        ]
        self._messages = array.array("B", b"".join(packed))
        self.request = _TRANSFER.pack(self._messages.buffer_info()[0], len(messages))


class I2cBus:
    """A chip with registers of 16 bits, most significant byte first."""

    def __init__(self, bus: int, address: int) -> None:
        self._path = "/dev/i2c-%d" % bus
        self._bus = bus
        self._address = address
        self._fd = -1
        self._reads: Dict[Tuple[int, ...], _Transfer] = {}
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
            parts = [part for register in registers for part in ((0, bytes([register])), (_I2C_M_RD, bytes(2)))]
            self._reads[registers] = _Transfer(self._address, parts)
        read = self._reads[registers]
        self._do(read)
        return [int.from_bytes(answer, "big") for answer in read.buffers[1::2]]

    def write_word(self, register: int, value: int) -> None:
        """Set a register's 16 bits."""
        self._do(_Transfer(self._address, [(0, bytes([register]) + value.to_bytes(2, "big"))]))

    def close(self) -> None:
        """Close the device."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _do(self, transfer: _Transfer) -> None:
        try:
            fcntl.ioctl(self._fd, _I2C_RDWR, transfer.request)
        except OSError as error:
            raise self._explained(error, OddReadingError)  # a glitch on the wire, or the chip is gone: the next tells

    def _explained(self, error: OSError, kind: Type[SensorError] = SensorError) -> SensorError:
        return kind(explain(error, self._path, self._bus, self._address))


def explain(error: OSError, path: str, bus: int, address: int) -> str:
    """Return in words why the chip cannot be reached, and the fix."""
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
