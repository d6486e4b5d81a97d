"""What a user's login shell gets: a constant line that every shell passes on; all else goes over stdin, to ``sh``.

sshd hands a command to the user's login shell, and shells differ in what they make of it: csh takes no newline inside
quotes and expands ``!`` there, fish has backslashes of its own. So scripts and paths are read by a plain ``sh``. What
the shell's rc file prints stands before our own output, with or without a newline; a mark tells the two apart.
"""

from __future__ import annotations

SCRIPT = "exec sh -s"
"""Runs the shell script that comes on stdin."""

LINE = "exec sh -c 'read -r line; eval \"$line\"'"
"""Runs the one line of shell that comes on stdin; what follows it is for the program that it starts."""

MARK = b"pipeline-begins\n"


def line(command: str) -> bytes:
    r"""Return the line for ``LINE`` that prints the mark and then runs ``command``.

    >>> line("exec python3 'my agent.pyz'")
    b"echo pipeline-begins; exec python3 'my agent.pyz'\n"
    """
    return b"echo " + MARK.rstrip() + b"; " + command.encode() + b"\n"


class AfterMark:
    """Drops what comes before the mark, however much that is."""

    def __init__(self) -> None:
        self.found = False
        self._tail = b""

    def rest(self, chunk: bytes) -> bytes:
        """Return what of ``chunk`` stands after the mark."""
        if self.found:
            return chunk
        _, mark, after = (self._tail + chunk).partition(MARK)
        self.found = bool(mark)
        self._tail = b"" if mark else (self._tail + chunk)[-len(MARK) + 1 :]
        return after
