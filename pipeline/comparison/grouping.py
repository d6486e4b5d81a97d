"""Groups of repeated runs: those that differ in nothing but the seed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pipeline.comparison.run_figures import DEVICE_SETTINGS, STRATEGY_OPTIONS, Entry
from pipeline.errors import UserError

BASELINE = "baseline"
_NAME_WIDTH = 36
"""Of a group; where one is longer, all of them are letters."""
_SPEAKING = ("strategy", "model", "criterion", "data", "device")
"""Settings whose values say by themselves what they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grouped:
    """Runs that repeat each other, one a seed."""

    name: str
    differs: Mapping[str, str]
    """The settings in which the groups differ, and this one's values."""
    entries: tuple[Entry, ...]


def grouped(entries: Sequence[Entry]) -> tuple[list[Grouped], dict[str, str]]:
    """Return the groups in the order of their first runs, and the runs that were left out, each with the reason.

    Raises:
        UserError: the runs are of different data: no figure of one says anything of the other.
    """
    _require_one_data_set(entries)
    by_settings: dict[tuple[tuple[str, str], ...], list[Entry]] = defaultdict(list)
    for entry in entries:
        by_settings[tuple(sorted(_identity(entry).items()))].append(entry)
    differing = _differing([dict(settings) for settings in by_settings])
    left_out: dict[str, str] = {}
    groups = []
    for settings, repeated in by_settings.items():
        own = dict(settings)
        differs = {key: own.get(key, "") for key in differing if _concerns(key, own)}
        name = name_of(differs) or repeated[0].settings["strategy"]
        groups.append(Grouped(name=name, differs=differs, entries=_one_a_seed(repeated, left_out)))
    names = {group.name for group in groups}
    if max(map(len, names)) > _NAME_WIDTH or len(names) < len(groups):
        groups = [replace(group, name=letters(number)) for number, group in enumerate(groups)]
    return groups, left_out


def shared_settings(entries: Sequence[Entry]) -> dict[str, str]:
    """Return the settings in which all entries agree."""
    first = dict(entries[0].settings)
    return {key: value for key, value in first.items() if all(e.settings.get(key) == value for e in entries)}


def name_of(differs: Mapping[str, str]) -> str:
    """Return a group's name; empty where nothing sets it apart.

    >>> name_of({"strategy": "dqn", "weights": "", "baseline": ""}), name_of({"strategy": "dqn", "baseline": "none"})
    ('dqn, weights none', 'dqn, baseline none')
    >>> name_of({"strategy": "dqn", "strategy_options.hidden": "32"})
    'dqn, hidden 32'
    """
    named = {key.removeprefix(STRATEGY_OPTIONS): value for key, value in differs.items() if value or key != BASELINE}
    return ", ".join(value if key in _SPEAKING else f"{key} {value or 'none'}" for key, value in named.items())


def letters(number: int) -> str:
    """Return the letters that stand for a number: A to Z, then AA.

    >>> letters(0), letters(25), letters(26)
    ('A', 'Z', 'AA')
    """
    first, last = divmod(number, 26)
    return (letters(first - 1) if first else "") + chr(ord("A") + last)


def _identity(entry: Entry) -> dict[str, str]:
    return {**entry.settings, BASELINE: entry.baseline or ""}


def _differing(settings: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the settings in which some of those that they concern differ, those that speak for themselves first."""
    keys = dict.fromkeys(key for each in settings for key in each)
    found = [key for key in keys if len({each.get(key, "") for each in settings if _concerns(key, each)}) > 1]
    devices = {tuple(each.get(key, "") for key in DEVICE_SETTINGS) for each in settings}
    if len({name for name, *_ in devices}) == len(devices):  # its name says it all
        found = [key for key in found if key not in DEVICE_SETTINGS[1:]]
    return sorted(found, key=lambda key: (_SPEAKING.index(key) if key in _SPEAKING else len(_SPEAKING), key))


def _concerns(key: str, settings: Mapping[str, str]) -> bool:
    """Return whether a setting means anything to a run: a strategy's own mean nothing to another one."""
    return key in settings or not key.startswith(STRATEGY_OPTIONS)


def _one_a_seed(entries: Sequence[Entry], left_out: dict[str, str]) -> tuple[Entry, ...]:
    """Return the newest run of each seed: the same seed again gives the same plans, and is no further sample."""
    last: dict[int, Entry] = {}
    for entry in sorted(entries, key=lambda entry: entry.run):
        if (earlier := last.get(entry.seed)) is not None and earlier.run != entry.run:
            left_out[earlier.run] = f"{entry.run} has the same settings and the same seed, {entry.seed}"
        last[entry.seed] = entry
    return tuple(sorted(last.values(), key=lambda entry: entry.seed))


def _require_one_data_set(entries: Sequence[Entry]) -> None:
    first = entries[0]
    other = next((entry for entry in entries if entry.data != first.data), None)
    if other is not None:
        raise UserError(
            f"runs {first.run} and {other.run} cannot be compared: their data differs ({first.settings['data']}, "
            f"{other.settings['data']}), and so do their test images; compare runs of one data set"
        )
