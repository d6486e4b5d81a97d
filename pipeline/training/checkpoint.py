"""A training's whole state as bytes: tensors as safetensors, the rest as JSON in their header. Never a pickle."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import Any, Protocol

from safetensors.torch import load
from torch import Tensor

from pipeline.models.safetensors_io import tensors_bytes

FORMAT = 1
_KEY = "training"
_SHARE = 0.02
"""Of the time, at most, is spent on writing where a write is slow."""
_LONGEST_PAUSE = 20
"""Times the usual interval: a slow disk must not put the next checkpoint off for ever."""


class Slot(Protocol):
    """One training's place on the disk: what is written is there whole, or what was there before still is."""

    def read(self) -> bytes | None:
        """Return what was written last; None where nothing was."""
        ...

    def write(self, data: bytes) -> None:
        """Replace what is there."""
        ...

    def remove(self) -> None:
        """Leave nothing there."""
        ...


@dataclass(frozen=True, slots=True)
class State:
    """Tensors by name, and what JSON can say."""

    facts: dict[str, Any]
    tensors: dict[str, Tensor]

    def to_bytes(self) -> bytes:
        """Return what ``from_bytes`` reads."""
        return tensors_bytes(self.tensors, {_KEY: json.dumps({"format": FORMAT, **self.facts})})

    @classmethod
    def from_bytes(cls, data: bytes) -> State:
        """Read a state.

        Raises:
            ValueError: damaged, or of another format.
        """
        try:
            length = int.from_bytes(data[:8], "little")  # safetensors' layout: header length, JSON header, tensors
            facts = json.loads(json.loads(data[8 : 8 + length])["__metadata__"][_KEY])
            tensors = load(data)
        except Exception as error:  # safetensors raises its own, which derives from Exception alone
            raise ValueError(f"it is damaged ({error})") from error
        if facts.get("format") != FORMAT:
            raise ValueError(f"it has format {facts.get('format')}, known is {FORMAT}")
        return cls(facts, tensors)

    def under(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors of one part, such as ``momentum``, by the rest of their name."""
        start = f"{prefix}/"
        return {name.removeprefix(start): value for name, value in self.tensors.items() if name.startswith(start)}


@dataclass(kw_only=True)
class Checkpoints:
    """Writes a training's state now and then: not before ``every_s`` is over, more rarely where the disk is slow."""

    slot: Slot
    every_s: float = 30.0
    written_s: float = 0.0
    """Seconds spent on it so far."""
    _due: float = field(init=False)

    def __post_init__(self) -> None:
        self._due = time.monotonic() + self.every_s

    @property
    def due(self) -> bool:
        """Whether it is time for the next one."""
        return time.monotonic() >= self._due

    def write(self, state: State) -> None:
        """Write a state, and put the next one off."""
        start = time.monotonic()
        self.slot.write(state.to_bytes())
        now = time.monotonic()
        self.written_s += now - start
        pause = min((now - start) / _SHARE, _LONGEST_PAUSE * self.every_s)
        self._due = now + max(self.every_s, pause)
