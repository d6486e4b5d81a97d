"""INA219 on the board's supply line, over the kernel's raw I2C device.

Registers and timing: Texas Instruments SBOS448, "INA219 Zero-Drift, Bidirectional Current/Power Monitor". Power is
bus voltage × shunt voltage / shunt resistance. The chip's own calibration register is left alone: a sharp load may
reset the chip and clear it, and then its power register reads zero.
"""

import ctypes
import errno
import fcntl
import os
import time
from typing import Any, Dict

from device_agents.power import SensorError, number, settings

_DEFAULTS = {"bus": 1, "address": 0x40, "shunt_ohms": 0.1}

# SBOS448, table "Summary of Register Set"
_CONFIGURATION, _SHUNT, _BUS, _POWER = 0x00, 0x01, 0x02, 0x03
# 16 V range, gain /8 (±320 mV), bus 12 bit once (0.532 ms), shunt averaged 32 times (17.02 ms), continuous
CONFIGURATION = 0x19EF
CYCLE_S = 0.000532 + 0.01702
SHUNT_LSB_V = 10e-6
BUS_LSB_V = 4e-3
_CONVERSION_READY, _OVERFLOW = 0x2, 0x1  # of the bus voltage register
_SHUNT_FULL_SCALE = 32000
_BACKWARDS = -50  # 0.5 mV: beyond the offset, the current really flows the other way
_PATIENCE_CYCLES = 6

_I2C_SLAVE, _I2C_RDWR, _I2C_M_RD = 0x0703, 0x0707, 0x0001  # linux/i2c-dev.h, linux/i2c.h


def check(options: Dict[str, Any]) -> str:
    """Say whether the chip answers."""
    try:
        chosen = _chosen(options)
        bus = I2cBus(chosen["bus"], chosen["address"])
        try:
            bus.read_word(_CONFIGURATION)
        finally:
            bus.close()
    except SensorError as error:
        return str(error)
    return "ok"


def open(options: Dict[str, Any]) -> "Ina219":
    """Configure the chip and wait for nothing: the first value waits for the first conversion."""
    chosen = _chosen(options)
    return Ina219(I2cBus(chosen["bus"], chosen["address"]), chosen["shunt_ohms"])


class Ina219:
    """The chip behind ``bus``: anything with read_word(register), write_word(register, value) and close()."""

    source = "ina219"
    scope = "board"
    interval_s = CYCLE_S

    def __init__(self, bus: Any, shunt_ohms: float) -> None:
        self._bus = bus
        self._shunt_ohms = shunt_ohms
        bus.write_word(_CONFIGURATION, CONFIGURATION)

    def read_w(self) -> float:
        """Wait for the next conversion and return its power in watts."""
        bus_word = self._converted()
        shunt_word = self._bus.read_word(_SHUNT)
        self._bus.read_word(_POWER)  # clears "conversion ready"
        return power_w(bus_word, shunt_word, self._shunt_ohms)

    def close(self) -> None:
        """Let go of the bus; the chip goes on converting, as it does from power-up."""
        self._bus.close()

    def _converted(self) -> int:
        """Return the bus voltage register of the next conversion."""
        deadline = time.monotonic() + _PATIENCE_CYCLES * CYCLE_S
        while True:
            late = time.monotonic() > deadline  # looked at before reading: a process put to sleep still gets its value
            word = int(self._bus.read_word(_BUS))
            if word & _CONVERSION_READY:
                return word
            if late:
                raise SensorError(
                    "the INA219 finished no conversion in %.0f ms: another program may have set it to sleep; end it"
                    % (_PATIENCE_CYCLES * CYCLE_S * 1e3)
                )
            time.sleep(CYCLE_S / 16)


def power_w(bus_word: int, shunt_word: int, shunt_ohms: float) -> float:
    """Return the power in watts from the two registers.

    With SBOS448's example values (bus 0x5D98 = 11.98 V, shunt 0x07D0 = 20 mV over 2 mΩ):

    >>> round(power_w(0x5D98, 0x07D0, 0.002), 1)
    119.8

    Raises:
        SensorError: overflow, full scale, no supply voltage, or a current that runs backwards.
    """
    volts = (bus_word >> 3) * BUS_LSB_V
    shunt = shunt_word - 0x10000 if shunt_word & 0x8000 else shunt_word
    if bus_word & _OVERFLOW or abs(shunt) >= _SHUNT_FULL_SCALE:
        raise SensorError("the INA219 overflowed: more than %.2f A; use a smaller shunt" % (0.32 / shunt_ohms))
    if shunt < _BACKWARDS:
        raise SensorError("the current through the INA219 runs backwards: swap VIN+ (the supply) and VIN- (the board)")
    if volts == 0:
        raise SensorError("the INA219 sees 0 V: wire VIN+ to the supply and VIN- to the board's 5 V")
    return volts * shunt * SHUNT_LSB_V / shunt_ohms


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


class I2cBus:
    """One chip on /dev/i2c-N, its registers read in one combined transfer each, most significant byte first."""

    def __init__(self, bus: int, address: int) -> None:
        self._path = "/dev/i2c-%d" % bus
        self._bus = bus
        self._address = address
        self._fd = -1
        try:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
            fcntl.ioctl(self._fd, _I2C_SLAVE, address)  # refused while a kernel driver holds the chip
        except OSError as error:
            self.close()
            raise self._explained(error)

    def read_word(self, register: int) -> int:
        """Return a register's 16 bits."""
        chosen = ctypes.create_string_buffer(bytes([register]), 1)
        answer = ctypes.create_string_buffer(2)
        self._transfer(
            _Message(self._address, 0, 1, ctypes.cast(chosen, ctypes.POINTER(ctypes.c_char))),
            _Message(self._address, _I2C_M_RD, 2, ctypes.cast(answer, ctypes.POINTER(ctypes.c_char))),
        )
        return int.from_bytes(answer.raw, "big")

    def write_word(self, register: int, value: int) -> None:
        """Set a register's 16 bits."""
        data = ctypes.create_string_buffer(bytes([register]) + value.to_bytes(2, "big"), 3)
        self._transfer(_Message(self._address, 0, 3, ctypes.cast(data, ctypes.POINTER(ctypes.c_char))))

    def close(self) -> None:
        """Close the device."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _transfer(self, *messages: _Message) -> None:
        transfer = _Transfer((_Message * len(messages))(*messages), len(messages))
        try:
            fcntl.ioctl(self._fd, _I2C_RDWR, transfer)
        except OSError as error:
            raise self._explained(error)

    def _explained(self, error: OSError) -> SensorError:
        return SensorError(explain(error, self._path, self._bus, self._address))


def explain(error: OSError, path: str, bus: int, address: int) -> str:
    """Return in words why the chip cannot be reached, and the mend."""
    if error.errno == errno.ENOENT:
        return "%s is missing: switch I2C on (sudo raspi-config nonint do_i2c 0) and reboot" % path
    if error.errno in (errno.EACCES, errno.EPERM):
        return "no permission for %s: sudo usermod -aG i2c $USER, then log in again" % path
    if error.errno == errno.EBUSY:
        chip = "0x%02x on bus %d" % (address, bus)
        free = "echo 0x%02x | sudo tee /sys/bus/i2c/devices/i2c-%d/delete_device" % (address, bus)
        return "a kernel driver holds the chip at %s: %s" % (chip, free)
    if error.errno in (errno.EREMOTEIO, errno.ENXIO):
        return "no chip answers at 0x%02x on bus %d: check wiring and address with i2cdetect -y %d" % (
            address,
            bus,
            bus,
        )
    return "I2C transfer with 0x%02x on %s failed: %s" % (address, path, error)


def _chosen(options: Dict[str, Any]) -> Dict[str, Any]:
    chosen = settings(options, _DEFAULTS)
    return {
        "bus": int(number(chosen, "bus", 0, 255)),
        "address": int(number(chosen, "address", 0x03, 0x77)),
        "shunt_ohms": number(chosen, "shunt_ohms", 1e-4, 10),
    }
