"""The board held for one caller: its lock and its power modes, from ``hold`` to ``release``, silence or the end.

A caller whose connection broke comes again in a new session and finds its own old agent in the way, which waits for a
line that never ends. The word ``session`` proves that it is its own: the old one is ended then, not waited for.
"""

import contextlib
import os
import pwd
import select
import signal
import time
from typing import TYPE_CHECKING, Any, Dict, Iterator, Optional

from device_agents import modes
from device_agents.arguments import Hold
from device_agents.errors import AgentError
from device_agents.folder import FolderError, secure
from device_agents.lock import Holder, Lock, duration
from device_agents.protocol import HELD
from device_agents.state import State
from device_agents.wire import CallerGoneError, Emit, Lines

if TYPE_CHECKING:
    from device_agents.guard import Watchdog

_TRY_EVERY_S = 0.25
_TELL_EVERY_S = 1.0


class Holding:
    """Whether this agent holds the board, for whom, and in which modes."""

    def __init__(self, folder: str, caller: Lines) -> None:
        self._folder = folder
        self._caller = caller
        self._lock = Lock()
        self._state = State(folder)
        self._asked: Optional[Hold] = None
        """What was asked for; kept when silence loses the board, so that it can be taken again."""
        self._watchdog: Optional["Watchdog"] = None
        self._silent_since_s = time.monotonic()

    def hold(self, asked: Hold, emit: Emit) -> Dict[str, Any]:
        """Wait for the board, take it, set the modes.

        Returns:
            {"applied": {mode: value}, "refused": {mode: why}}

        Raises:
            AgentError: HELD, somebody else has had it for all of ``wait_s``.
            CallerGoneError: the caller did not wait so long.
        """
        self.release()
        deadline = time.monotonic() + asked.wait_s
        tell_at = 0.0
        holder = self._take(asked)
        while holder is not None:
            now = time.monotonic()
            if now >= deadline:
                raise AgentError(
                    HELD,
                    "held by %s; waited %s: try again later, or wait longer (lock: wait_s in the inventory)"
                    % (holder.words(), duration(asked.wait_s)),
                )
            if now >= tell_at:
                tell_at = now + _TELL_EVERY_S
                emit({"event": "waiting", "holder": holder.event()})
            listen(self._caller, min(_TRY_EVERY_S, deadline - now))
            holder = self._take(asked)
        self._asked = asked
        return self._set_modes(asked)

    def release(self) -> Dict[str, Any]:
        """Put the modes back and let go of the board; return {"restored": {mode: value now}}."""
        self._asked = None
        return {"restored": self._let_go()}

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Have the board in the block: as held, as held before silence lost it, else for the block's duration.

        Raises:
            AgentError: HELD, somebody else has it.
        """
        for_now = not self._lock.held
        asked = self._asked or Hold("%s, for one measurement" % _user())
        if for_now:
            holder = self._take(asked)
            if holder is not None:
                raise AgentError(HELD, "held by %s; hold the board first, or try again later" % holder.words())
            if self._asked is not None:
                self._set_modes(asked)
        try:
            yield
        finally:
            if for_now and self._asked is None:
                self._let_go()

    def busy(self) -> None:
        """A request has come and is being worked on."""
        self._lock.expire_at(None)

    def quiet(self) -> None:
        """It is answered: silence begins."""
        self._silent_since_s = time.monotonic()
        if self._asked is not None:
            self._lock.expire_at(self._silent_since_s + self._asked.ttl_s)

    def patience_s(self) -> Optional[float]:
        """Return how much longer silence is borne, first until the board is lost; None: for ever, nothing was held."""
        if self._asked is None:
            return None
        times = 1 if self._lock.held else 2
        return max(0.0, self._silent_since_s + times * self._asked.ttl_s - time.monotonic())

    def lapse(self) -> bool:
        """The caller has been silent for too long: others may have the board; return whether it was held until now.

        If not, it has been silent as long again, and is gone for all that a link tells whose other end has vanished.
        """
        held = self._lock.held
        self._let_go()
        return held

    def holder(self) -> Optional[str]:
        """Return in words who holds the board, None when nobody does or nobody can tell."""
        holder = self._lock.holder()
        return None if holder is None else holder.words()

    def _take(self, asked: Hold) -> Optional[Holder]:
        """Take the board, as the last one left it put right; return None, or who has it."""
        holder = self._lock.take(asked.owner, asked.session)
        if holder is None:
            modes.restore(self._state)
        elif asked.session and holder.session == asked.session:
            _end_agent(holder.pid, self._lock.path)
        return holder

    def _set_modes(self, asked: Hold) -> Dict[str, Any]:
        """Set the modes with a watchdog beside that puts them back; it goes at once when nothing was changed."""
        if not asked.modes:
            return {"applied": {}, "refused": {}}
        from device_agents.guard import Watchdog  # not above: hello is answered before anything is held

        try:
            secure(self._folder)
            self._watchdog = Watchdog(self._state, self._folder, self._lock.fd)
        except (OSError, FolderError, modes.RefusedError) as error:
            return {"applied": {}, "refused": {mode: str(error) for mode in asked.modes}}
        applied, refused = modes.apply(asked.modes, self._state)
        if not self._state.there():
            self._end_watchdog()
        return {"applied": applied, "refused": refused}

    def _let_go(self) -> Dict[str, Any]:
        restored = self._end_watchdog()
        self._lock.give()
        return restored

    def _end_watchdog(self) -> Dict[str, Any]:
        watchdog, self._watchdog = self._watchdog, None
        return watchdog.restore() if watchdog else {}


def listen(caller: Lines, seconds: float) -> None:
    """Wait so long, or until the caller says something, which is kept for later.

    Raises:
        CallerGoneError: the caller closed the line.
    """
    if select.select([caller.fd], [], [], seconds)[0]:
        caller.fill()
    if not caller.open:
        raise CallerGoneError()


def _end_agent(pid: int, lock: str) -> None:
    """End an agent of this same user's that has the lock open; anybody may have written this number there."""
    process = "/proc/%d" % pid
    try:
        with open(process + "/cmdline", "rb") as file:
            command = file.read().split(b"\0")
        held = os.lstat(lock)
        ours = os.stat(process).st_uid == os.geteuid() and pid != os.getpid() and b"--dir" in command
        if ours and any(_is(os.path.join(process, "fd", fd), held) for fd in os.listdir(process + "/fd")):
            os.kill(pid, signal.SIGTERM)
    except OSError:
        pass  # it is gone, or not ours


def _is(path: str, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.stat(path), status)
    except OSError:
        return False  # closed meanwhile


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return "user %d" % os.getuid()
