"""Failed finalists: each is left out and named; where all fail alike, the run ends."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from pipeline.errors import CandidateError
from pipeline.events import Listener, Note

_AT_LEAST = 3
"""So many may fail alike by chance."""


@dataclass
class Failures:
    """The failures so far, and how many came in a row."""

    listen: Listener
    candidates: int
    """So many could become finalists."""
    found: dict[str, CandidateError] = field(default_factory=dict)
    """By the name of the training, or of the artifact that did not come of it."""
    _in_a_row: int = 0

    @contextmanager
    def left_out(self, name: str, *, ends_a_row: bool = True) -> Iterator[None]:
        """Go on after a finalist's failure, which is said and put down.

        Args:
            ends_a_row: whether getting through is a success that ends a row of failures.
        """
        try:
            yield
        except CandidateError as error:
            self.found[name] = error
            self._in_a_row += 1
            self.listen(Note(f"finalist {name} failed and is left out: {error}"))
        else:
            if ends_a_row:
                self._in_a_row = 0

    def stop_if_systematic(self, batch: int) -> None:
        """End the run where a whole batch, or the last few in a row, failed for the same reason.

        Raises:
            CandidateError: says the reason, and that the other candidates were not tried.
        """
        row = list(self.found.items())[-self._in_a_row :] if self._in_a_row else []
        if len(row) < max(batch, _AT_LEAST) or len(self.found) >= self.candidates:
            return
        if len({kind_of(error) for _, error in row}) == 1:
            name, error = row[0]
            raise CandidateError(
                f"the same error in {len(row)} consecutive finalists: it is systematic, so no other candidate is "
                f"tried; the first of them was {name}: {error}"
            )

    def none_left(self) -> CandidateError:
        """Return the error that says that no candidate came through, to be raised."""
        name, error = next(iter(self.found.items()))
        missed = "" if len(self.found) == self.candidates else "; the others miss a target, measured longer"
        return CandidateError(
            f"no finalist is left: {len(self.found)} of {self.candidates} failed{missed}; "
            f"the first that failed was {name}: {error}"
        )


def kind_of(error: CandidateError) -> tuple[str, str]:
    """Return what makes two failures alike: their class, and the words before the first colon, numbers aside.

    >>> kind_of(CandidateError("training diverged: the loss is nan at step 3"))
    ('CandidateError', 'training diverged')
    """
    return type(error).__name__, re.sub(r"\d+", "#", str(error).partition(":")[0])
