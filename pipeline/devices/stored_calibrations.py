"""Devices' calibrations between runs: a JSON file each, in the user's data folder.

Not in a project's folder: a calibration is of a board, whichever network is pruned for it. Devices of one name at
different addresses, as two inventories may have them, have a file each.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from pipeline import regular_file, serialization
from pipeline.errors import OutputError, StoreError
from pipeline.measurement.calibration import Calibration, Conditions
from pipeline.printable import printable_values
from pipeline.records import Device

FORMAT = 1
"""Of the files; rises with every change that an older version would misread."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a device's intervals: a calibration that holds for it as it is now, or why there is none."""

    calibration: Calibration | None
    never: bool = False
    """Nobody has calibrated it."""
    why: str = ""
    """Why what is stored is of no use; empty where nothing is, or it holds."""


def known_calibration(device: Device, now: Conditions) -> Known:
    """Return the calibration that holds for a device as it is now; never raises a PipelineError."""
    try:
        found = read_calibration(device)
    except StoreError as error:
        return Known(None, why=str(error))
    if found is None:
        return Known(None, never=True)
    why = found.misfit(now)
    return Known(found) if why is None else Known(None, why=f"the calibration of {found.date[:10]} is {why}")


def read_calibration(device: Device) -> Calibration | None:
    """Return what is stored of a device; None where nothing is, as of one that plays a recording.

    Raises:
        StoreError: as ``read_file``.
    """
    path = path_of(device)
    return read_file(path, device.name) if device.recording is None and regular_file.exists(path) else None


def read_file(path: Path, name: str) -> Calibration:
    """Return the calibration of the device ``name`` that a file holds.

    Raises:
        StoreError: it cannot be read, is damaged, another version's or another device's; says how to replace it.
    """
    fix = f"`pipeline devices calibrate {name}` replaces it"
    try:
        found = _calibration(serialization.from_text(regular_file.read_text(path)))
    except OSError as error:
        raise StoreError(f"{name}'s calibration {path} cannot be read: {error.strerror}; {fix}") from error
    except ValueError as error:
        raise StoreError(f"{name}'s calibration {path} is damaged: {serialization.problem(error)}; {fix}") from error
    if found.device != name:
        raise StoreError(f"{path} is no calibration of {name}, but of {found.device}; {fix}")
    return found


def store_calibration(device: Device, calibration: Calibration) -> Path:
    """Store a calibration in the place of an older one, all or nothing; return its file.

    Raises:
        OutputError: the file cannot be written.
    """
    path = path_of(device)
    text = serialization.to_text({"format": FORMAT, "calibration": serialization.dump(calibration)}, indent=1)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, text)
    except OSError as error:
        raise OutputError(
            f"{device.name}'s calibration {path} cannot be written: {error.strerror}; make room there, or set "
            "XDG_DATA_HOME to another folder"
        ) from error
    return path


def path_of(device: Device) -> Path:
    """Return where a device's calibration lies.

    >>> path_of(Device(name="local", kind="local")).name
    'local.json'
    """
    address = device.ssh and f"{device.ssh.host}:{device.ssh.port}"
    end = f"-{hashlib.sha256(address.encode()).hexdigest()[:8]}" if address else ""
    return platformdirs.user_data_path("pipeline") / "calibrations" / f"{device.name}{end}.json"


def _calibration(plain: object) -> Calibration:
    if not isinstance(plain, dict) or "calibration" not in plain:
        raise ValueError("it is none of this program's")
    if plain.get("format") != FORMAT:
        raise ValueError(f"its format is {plain.get('format')!r}, this version reads {FORMAT}")
    return serialization.load(Calibration, printable_values(plain["calibration"]))


def _write(path: Path, text: str) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise
