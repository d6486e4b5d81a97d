"""Small files in which the kernel shows a sensor's numbers."""

import errno
import os
import time
from typing import Optional

from device_agents.power import SensorError

_TRIES = 5
_PAUSE_S = 0.002


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
        SensorError: the file is missing, may not be read, or holds no number.
    """
    for attempt in range(_TRIES):
        try:
            return int(_read(path))
        except OSError as error:
            if error.errno != errno.EAGAIN or attempt == _TRIES - 1:
                raise SensorError("cannot read %s: %s" % (path, error))
            time.sleep(_PAUSE_S)
        except ValueError:
            raise SensorError("cannot read %s: it holds no number" % path)
    raise AssertionError("unreachable")


def _read(path: str) -> str:
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC), "r") as file:
        return file.read().strip()
