"""What says that a shorter way to a file cannot be gone; the longer one is gone then."""


class RefusedError(Exception):
    """This file cannot be made the short way for that network; says why."""
