"""The fast way to a file does not apply; a full export is made instead."""


class RefusedError(Exception):
    """This file cannot be made the short way for that network; says why."""
