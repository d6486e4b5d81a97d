"""Power modes: the cpufreq governor, nvpmodel, jetson_clocks; set where this user may, and put back as they were.

A mode that cannot be set is no error: it is ``refused``, with why and what would fix it. Without root, the one way to
set any is the root-owned helper that `pipeline devices setup` installs; see ``HELPER``.

What was there is written down (see ``state.py``) before anything is changed, and putting back starts from that file, so
whoever comes after a crash can do it: the watchdog, or the next agent.
"""

import contextlib
import glob
import os
import re
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from device_agents import programs
from device_agents.state import HELPER, State

ORDER = ("nvpmodel", "governor", "jetson_clocks")
"""A change of nvpmodel sets clocks and cores anew, so it comes first, and goes last."""

_SETUP = "`pipeline devices setup` installs a helper that may"
_SBIN = "/usr/sbin:/sbin:/usr/local/sbin:/usr/bin:/bin"
_PATIENCE_S = 30.0
_LAST_WORDS = 300
_KNOWN = "governor, nvpmodel, jetson_clocks"


class RefusedError(Exception):
    """A mode cannot be set; says why and what fixes it."""


def apply(wanted: Dict[str, Any], state: State) -> Tuple[Dict[str, Any], Dict[str, str]]:
    """Set the modes; return those that are now so, and those refused with why."""
    applied: Dict[str, Any] = {}
    refused = {mode: "unknown mode; known: %s" % _KNOWN for mode in wanted if mode not in _MODES}
    for mode in ORDER:
        if wanted.get(mode) is None or wanted[mode] is False:  # nvpmodel's 0 is a mode
            continue
        try:
            _MODES[mode].put(wanted[mode], state)
            applied[mode] = wanted[mode]
        except (RefusedError, OSError) as error:
            refused[mode] = str(error)
    return applied, refused


def restore(state: State) -> Dict[str, Any]:
    """Put back what can be; return {mode: value now}. What cannot stays remembered, for the next try."""
    left = state.before()
    restored: Dict[str, Any] = {}
    for mode in reversed(ORDER):
        if mode in left:
            with contextlib.suppress(RefusedError, OSError):
                restored[mode] = _MODES[mode].put_back(left[mode], state)
                del left[mode]
    state.keep(left)
    return restored


# ---------------------------------------------------------------- cpufreq


def governors(root: str) -> Dict[str, str]:
    """Return each policy's file and the governor in it."""
    folder = os.path.join(glob.escape(root), "sys/devices/system/cpu")
    paths = glob.glob(folder + "/cpufreq/policy*/scaling_governor") or glob.glob(
        folder + "/cpu[0-9]*/cpufreq/scaling_governor"
    )
    return {path: _read(path) for path in sorted(paths)}


def _put_governor(wanted: Any, state: State) -> None:
    before = governors(state.root)
    if not before:
        raise RefusedError("this board shows no cpufreq governor")
    for path in before:
        there = _read(os.path.join(os.path.dirname(path), "scaling_available_governors")).split()
        if there and wanted not in there:
            raise RefusedError("no governor %r on this board; there are: %s" % (wanted, ", ".join(there)))
    if set(before.values()) == {wanted}:
        return
    if all(os.access(path, os.W_OK) for path in before):
        state.remember("governor", before)
        for path in before:
            _write(path, wanted)
    elif wanted == "performance":
        _by_helper(state, "governor", "performance")
    else:
        raise RefusedError("only root may set governor %r; %s set performance" % (wanted, _SETUP))
    now = governors(state.root)
    if set(now.values()) != {wanted}:
        raise RefusedError("asked for %r, the board has %s" % (wanted, ", ".join(sorted(set(now.values())))))


def _put_back_governor(before: Any, state: State) -> Any:
    if before == HELPER:
        _require(_helper(state, "restore"))
    else:
        for path, governor in before.items():
            with contextlib.suppress(FileNotFoundError):  # nvpmodel may have switched that core off
                _write(path, governor)
    return ",".join(sorted(set(governors(state.root).values())))


# ---------------------------------------------------------------- NVIDIA's programs


def nvpmodel() -> Optional[int]:
    """Return the number of the power model in force, None where there is none."""
    program = _program("nvpmodel")
    if program is None:
        return None
    _, said = _run([program, "-q"])
    numbers = [line for line in said.splitlines() if re.fullmatch(r"\s*\d+\s*", line)]
    return int(numbers[-1]) if numbers else None


def _put_nvpmodel(wanted: Any, state: State) -> None:
    before = nvpmodel()
    if before is None:
        raise RefusedError("this board has no nvpmodel, or it does not say its mode")
    if before == wanted:
        return
    if os.geteuid() == 0:
        state.remember("nvpmodel", before)
        code, said = _run([str(_program("nvpmodel")), "-m", str(wanted)])
    else:
        _require_helper(state)
        state.remember("nvpmodel", before)
        code, said = _helper(state, "nvpmodel", str(wanted))
    now = nvpmodel()
    if now != wanted:
        raise RefusedError("nvpmodel -m %s ended with %d, mode is %s: %s" % (wanted, code, now, said[-_LAST_WORDS:]))


def _put_back_nvpmodel(before: Any, state: State) -> Any:
    if os.geteuid() == 0:
        _require(_run([str(_program("nvpmodel")), "-m", str(before)]))
    else:
        _require(_helper(state, "nvpmodel", str(before)))
    return nvpmodel()


def _put_clocks(wanted: Any, state: State) -> None:
    del wanted
    program = _program("jetson_clocks")
    if program is None:
        raise RefusedError("this board has no jetson_clocks")
    if os.geteuid() != 0:
        _by_helper(state, "jetson_clocks", "clocks")
        return
    with contextlib.suppress(FileNotFoundError):
        os.remove(state.clocks)  # jetson_clocks asks before it writes over one
    _require(_run([program, "--store", state.clocks]))
    state.remember("jetson_clocks", state.clocks)
    _require(_run([program]))


def _put_back_clocks(before: Any, state: State) -> Any:
    if before == HELPER:
        _require(_helper(state, "restore"))
    else:
        _require(_run([str(_program("jetson_clocks")), "--restore", str(before)]))
    return False


class _Mode(NamedTuple):
    put: Callable[[Any, State], None]
    put_back: Callable[[Any, State], Any]


_MODES = {
    "governor": _Mode(_put_governor, _put_back_governor),
    "nvpmodel": _Mode(_put_nvpmodel, _put_back_nvpmodel),
    "jetson_clocks": _Mode(_put_clocks, _put_back_clocks),
}


# ---------------------------------------------------------------- the helper


def _by_helper(state: State, mode: str, verb: str) -> None:
    """Have the helper set ``mode``; it keeps what was before by itself, where only root can write."""
    _require_helper(state)
    state.remember(mode, HELPER)
    _require(_helper(state, verb))


def _require_helper(state: State) -> None:
    if not os.path.exists(os.path.join(state.root, HELPER)):
        raise RefusedError("only root may set it; %s" % _SETUP)
    code, said = _helper(state, "status")
    if code != 0:
        raise RefusedError("the helper cannot be used (%s); %s" % (said[-_LAST_WORDS:].strip() or code, _SETUP))


def _helper(state: State, *words: str) -> Tuple[int, str]:
    return _run(["sudo", "-n", os.path.join(state.root, HELPER)] + list(words))


def _require(outcome: Tuple[int, str]) -> None:
    code, said = outcome
    if code != 0:
        raise RefusedError("exit code %d: %s" % (code, said[-_LAST_WORDS:] or "it said nothing"))


def _run(command: List[str]) -> Tuple[int, str]:
    """Return its exit code and all that it said, -1 and why where it did not run."""
    try:
        return programs.run(command, _PATIENCE_S)
    except programs.ProgramError as error:
        return -1, str(error)


def _program(name: str) -> Optional[str]:
    """Find a program on PATH or where only root's PATH looks."""
    return programs.find(name) or programs.find(name, _SBIN)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return ""


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
