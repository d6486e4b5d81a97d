"""Recordings: a board's raw answers in a file, from which a search can be played back.

A recording is gzip of one JSON object a line; ``zcat`` shows it:

    {"recording": 1, "device": settings, "shared": true or false, "about": what it was made with, "versions": {...},
     "calibration": the device's, if it had one}
    {"verb": ..., "arguments": {...}, "result": {...}, "structures": {file name: structure}}       one an answer
    {"verb": ..., "arguments": {...}, "failure": {"kind", "message"}, "structures": {...}}         where it failed

Numbers stand as the agent sent them. Each line is a gzip member of its own: a run that is killed leaves at most its
last line broken, and one that is resumed appends. Nothing in it says where the board is or who logs in there.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Self

from pydantic import ValidationError, model_validator
from pydantic_core import from_json

from pipeline import regular_file, serialization
from pipeline.answers import SizeLimits
from pipeline.answers.answer import Record, in_words
from pipeline.answers.fields import Text, Word
from pipeline.errors import InventoryError, StoreError
from pipeline.export.format_plugin import SKELETON, model_format, portable_format, skeleton_of
from pipeline.measurement.calibration import Calibration
from pipeline.plugins import is_file
from pipeline.printable import printable_values
from pipeline.records import REPLAY, Device

_log = logging.getLogger(__name__)

FORMAT = 1
FILE_NAME = "recording.jsonl.gz"

_PERSONAL = ("owner", "session", "user", "groups")
"""Who held the board and as whom: no business of whoever plays a recording back."""
_FOLDERS = re.compile(r"(?<![\w./])(?!(?<=:)//)~?/(?:[^\s/'\":]+/)+")
"""The folders of an absolute path, which hold a user's name as often as not."""
_GZIP = 31
"""zlib's window bits for a gzip member."""
_CHUNK_BYTES = 1 << 16
LINE_LIMITS = SizeLimits(size=64 * 1024 * 1024, values=7_000_000, containers=2_000_000)
"""Of one line; an agent's own are no longer."""
_LEAST_VALUES = 1_000_000
"""In a small file of values that are all alike; measured ones take more than a byte each."""
MOST_BYTES = 1024**3
"""Of all answers, unpacked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a recording says of itself."""

    device: Device
    """Its settings, without its address."""
    shared: bool
    """Whether the device was the machine that the run was made on."""
    about: Mapping[str, Any]
    """What it was made with: seed, targets, ..."""
    versions: Mapping[str, str]
    calibration: Calibration | None = None
    """That the run went by, without the device's address."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What the board said of a request whose own model failed there."""

    kind: str
    """One of the wire's that concern a candidate."""
    message: str


Result = Mapping[str, Any] | Failure


@dataclass(frozen=True, slots=True)
class Answer:
    """One request and what the board answered."""

    verb: str
    arguments: Mapping[str, Any]
    result: Mapping[str, Any]
    """Empty where there is a failure."""
    structures: Mapping[str, str]
    """Of the files that were measured for the first time: name → structure."""
    failure: Failure | None = None


def header_of(
    device: Device, about: Mapping[str, Any], versions: Mapping[str, str], calibration: Calibration | None = None
) -> Header:
    """Return the header of a recording of ``device``."""
    settings = replace(
        device, ssh=None, agent_dir=Device(name="", kind="").agent_dir, plugins=None,
        format=portable_format(device.format),
    )  # fmt: skip
    if calibration is not None:
        calibration = replace(calibration, conditions=replace(calibration.conditions, address=None))
    return Header(
        device=settings, shared=on_this_machine(device), about=about, versions=versions, calibration=calibration
    )


def on_this_machine(device: Device) -> bool:
    """Return whether host and device are one machine; of a recording, whether they were."""
    if device.recording is not None:
        return read_header(Path(device.recording)).shared
    return device.ssh is None


def as_recorded(device: Device) -> Device:
    """Return a replayed device with the settings of the board that was recorded, under its own name.

    Raises:
        InventoryError: there is no such recording, or it cannot be read.
    """
    if device.recording is None:
        return device
    settings = read_header(Path(device.recording)).device
    return replace(
        settings, name=device.name, kind=REPLAY, recording=device.recording, tags=device.tags,
        format=_format_of(device, settings.format),
    )  # fmt: skip


def _format_of(device: Device, recorded: str) -> str:
    """Return a recording's format; a file is the one that the inventory names: a recording is somebody else's."""
    if not is_file(recorded):
        return recorded
    if not is_file(device.format) or portable_format(device.format) != recorded:
        raise InventoryError(
            f"{device.name}: the recording {device.recording} is of files in the format of {recorded}; name that file "
            f"in the device's entry: format: {recorded}"
        )
    return device.format


def structure_of(name: str, content: bytes, format: str) -> str | None:
    """Return what a model file is but for the values of its weights; None: cannot be said of such a file.

    It is the SHA-256 of the file's size and of where its weights lie and how many there are. Two networks that were cut
    from one base model and agree in that are the same network, whatever they were trained to. Where no weights are left
    out, the file itself stands for its structure.

    Args:
        format: that the device's files are of; it tells weights from the rest.
    """
    extension = name.rpartition(".")[2]
    skeleton: bytes | None = content if extension == SKELETON else None
    if skeleton is None and extension == model_format(format).ending:
        skeleton = skeleton_of(format, content)
    if skeleton is None:
        return None
    head, _, rest = zlib.decompressobj().decompress(skeleton, LINE_LIMITS.size).partition(b"\n")
    header = json.loads(head)
    places = [header["size"], [fill[:2] for fill in header["fill"]]]
    if not header["fill"]:
        places.append(hashlib.sha256(rest).hexdigest())
    return hashlib.sha256(json.dumps(places).encode()).hexdigest()


# ---------------------------------------------------------------- write


class Recorder:
    """Takes in answers, and writes them to a file from ``begin`` on; what came before waits for it."""

    def __init__(self, format: str = "onnx") -> None:
        """Hear of files of this format, as the device's settings name it."""
        self._format = format
        self._waiting: list[bytes] = []
        self._seen: set[str] = set()
        self._path: Path | None = None
        self._file: BinaryIO | None = None
        self._lock = threading.Lock()

    def heard(
        self,
        verb: str,
        arguments: Mapping[str, Any],
        result: Result,
        files: Sequence[tuple[str, bytes]] = (),
    ) -> None:
        """Take in one answered request and the files that it was about.

        Raises:
            ValueError: it holds a number that JSON has no word for.
        """
        fresh = {name: content for name, content in files if name not in self._seen}
        found = {name: structure_of(name, content, self._format) for name, content in fresh.items()}
        answer = {"verb": verb, "arguments": _without_personal_data(arguments), **_written(result)}
        answer["structures"] = {name: structure for name, structure in found.items() if structure}
        line = _packed(answer)
        with self._lock:
            self._seen.update(fresh)
            if self._file is None:
                self._waiting.append(line)
            else:
                self._write([line])

    def begin(self, path: Path, header: Header) -> None:
        """Write to ``path`` from now on; an existing recording is continued and keeps its header.

        Raises:
            StoreError: it cannot be written.
        """
        with self._lock, _explained(path):
            self._path = path
            whole = _whole_bytes(path) if path.exists() else 0
            self._file = path.open("r+b" if path.exists() else "xb")
            self._file.truncate(whole)
            self._file.seek(whole)
            self._write([_packed(_plain(header))] if whole == 0 else [])
            self._write(self._waiting)
            self._waiting = []

    def close(self) -> None:
        """Close the file; what is heard afterwards is not kept."""
        with self._lock:
            if self._file is not None:
                self._file.close()
            self._file = None

    def _write(self, lines: Sequence[bytes]) -> None:
        assert self._file is not None  # the callers have seen to it
        assert self._path is not None
        with _explained(self._path):
            for line in lines:
                self._file.write(line)
            self._file.flush()


def _packed(line: Mapping[str, Any]) -> bytes:
    """Return a line as a gzip member of its own."""
    packer = zlib.compressobj(6, zlib.DEFLATED, _GZIP)
    text = json.dumps(line, separators=(",", ":"), allow_nan=False).encode() + b"\n"
    return packer.compress(text) + packer.flush()


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(f"the recording {path} cannot be written: {error.strerror}; make room, then resume") from error
    except ValueError as error:
        raise StoreError(f"the recording {path} cannot be continued: {error}; move it away, then resume") from error


def _without_personal_data(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in _PERSONAL}


def _written(result: Result) -> dict[str, Any]:
    """Return a result, or a failure without the folders that its message names, as a line holds it."""
    if isinstance(result, Failure):
        return {"failure": {"kind": result.kind, "message": _FOLDERS.sub("", result.message)}}
    return {"result": _without_personal_data(result)}


def _plain(header: Header) -> dict[str, Any]:
    return {
        "recording": FORMAT,
        "device": serialization.dump(header.device),
        "shared": header.shared,
        "about": dict(header.about),
        "versions": dict(header.versions),
        **({} if header.calibration is None else {"calibration": serialization.dump(header.calibration)}),
    }


# ---------------------------------------------------------------- read


def read_header(path: Path) -> Header:
    """Return what a recording says of itself; raises like ``read_answers``."""
    first = next(_lines(path), None)
    if first is None:
        raise InventoryError(f"the recording {path} is empty; record again: pipeline run --record")
    if first.get("recording") != FORMAT:
        raise InventoryError(
            f"{path} is no recording that this version reads: expected format {FORMAT}, found "
            f"{first.get('recording')!r}; make one with `pipeline run --record`"
        )
    try:
        header = _HeaderLine.model_validate(first)
        device = serialization.load(Device, printable_values(header.device))
        calibrated = header.calibration and serialization.load(Calibration, printable_values(header.calibration))
    except ValidationError as error:
        raise InventoryError(f"the header of the recording {path} is damaged: {in_words(error)}") from None
    except ValueError as error:
        raise InventoryError(
            f"the header of the recording {path} is damaged: {serialization.problem(error)}"
        ) from error
    about = printable_values(header.about)
    return Header(
        device=device, shared=header.shared, about=about, versions=header.versions, calibration=calibrated or None
    )  # fmt: skip


def read_answers(path: Path) -> Iterator[Answer]:
    """Yield a recording's answers in their order; a broken end is left out, with a warning.

    Raises:
        InventoryError: there is no such file, or it is no recording.
    """
    for number, line in enumerate(_lines(path)):
        if number == 0:
            continue
        try:
            answer = _AnswerLine.model_validate(line)
        except ValidationError as error:
            raise InventoryError(
                f"line {number + 1} of the recording {path} is damaged: {in_words(error)}"
            ) from None  # fmt: skip
        failure = Failure(answer.failure.kind, answer.failure.message) if answer.failure else None
        yield Answer(answer.verb, answer.arguments, answer.result or {}, answer.structures or {}, failure)


class _HeaderLine(Record):
    device: dict[str, Any]
    shared: bool
    about: dict[Word, Any]
    versions: dict[Word, Word]
    calibration: dict[str, Any] | None = None


class _FailureLine(Record):
    kind: Word
    message: Text


class _AnswerLine(Record):
    verb: Word
    arguments: dict[str, Any]
    result: dict[str, Any] | None = None
    failure: _FailureLine | None = None
    structures: dict[str, Word] | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.result is None) == (self.failure is None):
            raise ValueError("it holds neither a result nor a failure, or both")
        return self


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines; together they are in proportion to the file, which gzip alone does not promise.

    Raises:
        InventoryError: it cannot be read, or is no recording.
    """
    try:
        with regular_file.opened(path, regular_file.LIST_BYTES) as stream:
            most_values = max(_LEAST_VALUES, os.fstat(stream.fileno()).st_size)
            for member, _ in _members(stream, path):
                LINE_LIMITS.check(member)
                if (most_values := most_values - member.count(b",") - member.count(b"[") - member.count(b"{")) < 0:
                    raise ValueError("it inflates to more than a file of its size can hold")
                line = from_json(member, allow_inf_nan=False)
                if not isinstance(line, dict):
                    raise ValueError("a line of it is no object")
                yield line
    except OSError as error:
        raise InventoryError(f"the recording {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InventoryError(f"{path} is no recording: {error}") from error


def _whole_bytes(path: Path) -> int:
    """Return how many bytes of a recording are whole lines."""
    with regular_file.opened(path, regular_file.LIST_BYTES) as stream:
        return max((end for _, end in _members(stream, path)), default=0)


def _members(stream: BinaryIO, path: Path) -> Iterator[tuple[bytes, int]]:
    """Yield each whole gzip member's content, and where it ends in the file."""
    rest, read, number, whole = b"", 0, 0, 0
    while True:
        unpacker = zlib.decompressobj(_GZIP)
        parts: list[bytes] = []
        size = 0
        while not unpacker.eof:
            chunk = rest or stream.read(_CHUNK_BYTES)
            read += 0 if rest else len(chunk)
            rest = b""
            if not chunk and not parts:
                return
            try:
                parts.append(unpacker.decompress(chunk, LINE_LIMITS.size + 1 - size))
            except zlib.error as error:
                if number == 0:
                    raise ValueError(f"not gzip ({error})") from error
                chunk = b""
            if not chunk:
                _log.warning("%s is broken after line %d; what follows is left out", path, number)
                return
            size += len(parts[-1])
            if size > LINE_LIMITS.size or whole + size > MOST_BYTES:
                raise ValueError(
                    f"line {number + 1} inflates to more than {LINE_LIMITS.size} bytes, or all lines to {MOST_BYTES}"
                )
        rest, number, whole = unpacker.unused_data, number + 1, whole + size
        yield b"".join(parts), read - len(rest)
