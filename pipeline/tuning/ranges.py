"""Search ranges of `--search PATH=VALUES`: an interval, or a list of numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.config import DEFAULT_STRATEGY
from pipeline.errors import ConfigError
from pipeline.tuning.settings import Number, current_path, kind_of

_GRID_POINTS = 3
"""Of a range whose number of points is not given."""
_FORMS = "write PATH=LOW:HIGH, PATH=LOW:HIGH:log, either with :POINTS at the end, or PATH=A,B,C"


@dataclass(frozen=True, slots=True)
class Choice:
    """Some numbers."""

    path: str
    values: tuple[Number, ...]

    def points(self) -> tuple[Number, ...]:
        """Return all of them."""
        return self.values


@dataclass(frozen=True, slots=True)
class Range:
    """All numbers between two; whole ones where the setting is."""

    path: str
    low: Number
    high: Number
    log: bool = False

    def points(self, count: int = _GRID_POINTS) -> tuple[Number, ...]:
        """Return so many numbers from low to high, in equal steps, or in equal ratios if ``log``.

        >>> Range("a", 0.0, 1.0).points(), Range("a", 1, 4).points(9), Range("a", 0.01, 1.0, log=True).points()
        ((0.0, 0.5, 1.0), (1, 2, 3, 4), (0.01, 0.1, 1.0))
        """
        shares = [i / (count - 1) for i in range(count)]
        if self.log:
            raw = [self.low * (self.high / self.low) ** share for share in shares]
        else:
            raw = [self.low + (self.high - self.low) * share for share in shares]
        if isinstance(self.low, int):
            return tuple(dict.fromkeys(round(value) for value in raw))
        return tuple(float(f"{value:.6g}") for value in raw)  # 0.1 rather than 0.10000000000000002


Searched = Choice | Range


def parse_all(texts: Sequence[str], strategy: str = DEFAULT_STRATEGY) -> tuple[Searched, ...]:
    """Return what all ``--search`` options mean.

    Raises:
        ConfigError: none is given, one cannot be read, or a setting is named twice.
    """
    if not texts:
        raise ConfigError(f"nothing to search: {_FORMS}, such as --search reward.alpha=0.5:2")
    searched = tuple(parse(text, strategy) for text in texts)
    paths = [one.path for one in searched]
    if twice := {path for path in paths if paths.count(path) > 1}:
        raise ConfigError(f"--search: {', '.join(sorted(twice))} is given twice; give one range or one list")
    return searched


def parse(text: str, strategy: str = DEFAULT_STRATEGY) -> Searched:
    """Return what one ``--search`` option means.

    Args:
        strategy: whose own settings are meant where one of these is named.

    Raises:
        ConfigError: an unknown setting, no number, or an empty range.

    >>> parse("reward.gamma=0,0.02,0.1"), parse("trials=10:30")
    (Choice(path='reward.gamma', values=(0.0, 0.02, 0.1)), Range(path='trials', low=10, high=30, log=False))
    """
    path, equals, values = text.partition("=")
    if not equals or not values.strip():
        raise ConfigError(f"--search {text}: no values; {_FORMS}")
    path = current_path(path.strip(), strategy)
    kind = kind_of(path, strategy)
    return _range(path, kind, values.split(":")) if ":" in values else _choice(path, kind, values.split(","))


def _choice(path: str, kind: type[Number], words: Sequence[str]) -> Choice:
    values = tuple(_number(path, kind, word) for word in words)
    if len(set(values)) < len(values):
        raise ConfigError(f"--search {path}: a value is given twice in {','.join(words)}; give each once")
    return Choice(path, values)


def _range(path: str, kind: type[Number], words: Sequence[str]) -> Searched:
    log = "log" in words[2:3]
    rest = words[3:] if log else words[2:]
    if len(rest) > 1:
        raise ConfigError(f"--search {path}={':'.join(words)}: {_FORMS}")
    low, high = _number(path, kind, words[0]), _number(path, kind, words[1])
    if not low < high:
        raise ConfigError(f"--search {path}: the range {words[0]}:{words[1]} is empty; give the lower number first")
    if log and low <= 0:
        raise ConfigError(f"--search {path}: a logarithmic range begins above 0, found {words[0]}")
    found = Range(path, low, high, log)
    return Choice(path, found.points(_count(path, rest[0]))) if rest else found


def _count(path: str, word: str) -> int:
    count = int(_number(path, int, word))
    if count < 2:
        raise ConfigError(f"--search {path}: a range has 2 points or more, found {word}")
    return count


def _number(path: str, kind: type[Number], word: str) -> Number:
    try:
        value = kind(word)
    except ValueError:
        wanted = "a whole number" if kind is int else "a number"
        raise ConfigError(f"--search {path}: should be {wanted}, found {word.strip()!r}; {_FORMS}") from None
    if not math.isfinite(value):
        raise ConfigError(f"--search {path}: should be finite, found {word.strip()!r}")
    return value
