"""Text from elsewhere, made fit to be shown: what would steer a terminal or reorder a line is written out instead.

A board's names and messages end in a terminal, a log, a report, a README and a shell script's comments. They pass
through ``printable`` once, where they enter: as a validated answer's text, or as the message of an error.
"""

from __future__ import annotations

import re
from typing import Any

MOST_CHARACTERS = 1000
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")


def printable(text: str, most: int = MOST_CHARACTERS) -> str:
    r"""Return ``text`` on one line with whatever cannot be printed written out, cut to ``most`` characters.

    Unprintable is what ``str.isprintable`` says: control characters (ESC, CSI, C1), the signs that turn the direction
    of writing, zero-width and separator characters, halves of surrogate pairs. Line ends and tabs become spaces.

    >>> printable("pi\x1b[31m4\x9b" + chr(0x202E) + "gnp.exe")
    'pi\\x1b[31m4\\x9b\\u202egnp.exe'
    >>> printable("two\r\nlines, ü and °C"), printable("long" * 9, most=8)
    ('two lines, ü and °C', 'longlon…')
    """
    shown = text if len(text) <= most else f"{text[: most - 1]}…"
    return _UNPRINTABLE.sub(_written_out, re.sub(r"[\t\r\n]+", " ", shown))


def printable_lines(text: str, most: int = 10 * MOST_CHARACTERS) -> str:
    r"""Return ``text`` as ``printable`` does, its lines kept.

    >>> printable_lines("one\ntwo\x1b[2J")
    'one\ntwo\\x1b[2J'
    """
    shown = text if len(text) <= most else f"{text[: most - 1]}…"
    return shown if shown.isprintable() else "\n".join(printable(line, most) for line in shown.split("\n"))


def printable_values(value: Any) -> Any:
    r"""Return plain JSON values with every text in them made printable.

    >>> printable_values({"name\x1b": ["a\x07", 1, None]})
    {'name\\x1b': ['a\\x07', 1, None]}
    """
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {printable_values(key): printable_values(item) for key, item in value.items()}
    return [printable_values(item) for item in value] if isinstance(value, list) else value


def _written_out(found: re.Match[str]) -> str:
    character = found.group()
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
