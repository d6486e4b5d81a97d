"""Small files in which the kernel shows a sensor's numbers."""

import errno
import os
import time
from typing import Optional

from device_agents.power import OddReadingError, SensorError

_TRIES = 5
_PAUSE_S = 0.002
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ENODEV, errno.EACCES, errno.EPERM)
"""What trying again does not help; a transfer that failed on the bus is another matter."""


def text(path: str) -> Optional[str]:
    """Return the file's text without blanks at its ends, None where there is no such file."""
    try:
        return _read(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise SensorError("cannot read %s: %s" % (path, error))


def whole(path: str) -> int:
    """Return the whole number in the file.

    A conversion that is not ready (EAGAIN; NVIDIA's ina3221 driver gives up after ten looks) is waited for a little.

    Raises:
        SensorError: the file is missing or may not be read.
        OddReadingError: it could not be read this time, or holds no number.
    """
    for attempt in range(_TRIES):
        try:
            return int(_read(path))
        except OSError as error:
            if error.errno != errno.EAGAIN or attempt == _TRIES - 1:
                raise failure(path, error)
            time.sleep(_PAUSE_S)
        except ValueError:
            raise OddReadingError("cannot read %s: it holds no number" % path)
    raise AssertionError("unreachable")


def failure(path: str, error: OSError) -> SensorError:
    """Return the error for a file that could not be read: odd where the next try may succeed."""
    kind = SensorError if error.errno in _GONE else OddReadingError
    return kind("cannot read %s: %s" % (path, error))


def _read(path: str) -> str:
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC), "r") as file:
        return file.read().strip()
