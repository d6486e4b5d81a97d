"""Federation: the structure that sites share, the mean of their weights round by round, its checkpoint on the disk."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from safetensors.numpy import save

from pipeline import regular_file, serialization
from pipeline.errors import FederationError, OutputError
from pipeline.federated.averaging import Update, average
from pipeline.federated.messages import Hello, Learnt
from pipeline.federated.structure import MOST_NUMBERS, Structure, difference
from pipeline.federated.weights import Weights, packed, unpacked
from pipeline.search.dqn.policy_file import GROUPS, groups_text, header_of

_STATE = "federation"
"""Key of a checkpoint's metadata."""
_MOST_BYTES = 8 * MOST_NUMBERS
_KEPT_ROUNDS = 200
"""The last ones stand in the checkpoint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteRound:
    """What a site did in a round."""

    site: str
    trials: int
    share: float
    """In the mean."""
    loss: float
    updates: int
    clipped: bool
    """Whether its change was scaled down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What came of a round."""

    number: int
    sites: tuple[SiteRound, ...] = ()
    """Whose weights are in the mean; none: it stayed as it was."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Site → why its weights are not in it."""
    lost: tuple[str, ...] = ()
    """Sites that were asked and did not answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a site sent at the end of a round; its weights are not looked at yet."""

    hello: Hello
    policy: bytes
    learnt: Learnt


@dataclass(frozen=True, slots=True)
class _State:
    structure: Structure
    rounds: tuple[Round, ...]


class Federation:
    """Begins with the first site's structure and weights; goes on where its checkpoint says."""

    def __init__(self, checkpoint: Path) -> None:
        """Read the checkpoint where there is one.

        Raises:
            FederationError: it is damaged.
        """
        self._checkpoint = checkpoint
        self.structure: Structure | None = None
        self.weights: Weights | None = None
        self.rounds: list[Round] = []
        if regular_file.exists(checkpoint):
            self._read()

    @property
    def done(self) -> int:
        """How many rounds were."""
        return self.rounds[-1].number if self.rounds else 0

    @property
    def policy(self) -> bytes:
        """The mean as a policy file."""
        assert self.structure is not None
        assert self.weights is not None
        return packed(self.weights, self.structure)

    def refusal(self, hello: Hello) -> str | None:
        """Return why a site cannot take part; None: it can. The first that can says what all others need."""
        if self.structure is None:
            self.structure = hello.structure
        return difference(hello.structure, self.structure)

    def begin(self, policy: bytes) -> None:
        """Take a site's weights as those that all begin with.

        Raises:
            ValueError: they cannot be used.
        """
        assert self.structure is not None
        self.weights = unpacked(policy, self.structure)
        self._write()

    def close_round(
        self, answers: Sequence[Answer], *, least: int, refused: Mapping[str, str], lost: Sequence[str]
    ) -> Round:
        """Average what sites sent, leave out what cannot be used, and keep the mean.

        Args:
            answers: of the sites that answered.
            least: sites that a mean is made of; of fewer it stays as it was.
            refused: sites whose answers could not be read → why.
            lost: sites that did not answer.

        Raises:
            OutputError: the checkpoint cannot be written.
        """
        assert self.structure is not None
        assert self.weights is not None
        why, updates, by_site = dict(refused), [], {answer.hello.site: answer for answer in answers}
        for site, answer in sorted(by_site.items()):
            try:
                weights = unpacked(answer.policy, self.structure)
            except ValueError as error:
                why[site] = str(error)
            else:
                updates.append(Update(site=site, weights=weights, trials=answer.hello.trials))
        sites: tuple[SiteRound, ...] = ()
        if updates and len(updates) >= least:
            mean = average(self.weights, updates)
            self.weights = mean.weights
            sites = tuple(
                SiteRound(
                    site=update.site, trials=update.trials, share=mean.shares[update.site],
                    loss=by_site[update.site].learnt.loss, updates=by_site[update.site].learnt.updates,
                    clipped=update.site in mean.clipped,
                )
                for update in updates
            )  # fmt: skip
        done = Round(number=self.done + 1, sites=sites, refused=why, lost=tuple(sorted(lost)))
        self.rounds.append(done)
        self._write()
        return done

    # ------------------------------------------------------------ the checkpoint

    def _read(self) -> None:
        path = self._checkpoint
        try:
            data = regular_file.read_bytes(path, _MOST_BYTES)
            state = serialization.load(_State, serialization.from_text(header_of(data)["__metadata__"][_STATE]))
            self.weights = unpacked(data, state.structure)
        except OSError as error:
            raise FederationError(
                f"{path} cannot be read: {error.strerror or error}; choose another --checkpoint"
            ) from error
        except (ValueError, LookupError, TypeError) as error:
            raise FederationError(
                f"{path} is not a federation's checkpoint, or is damaged ({error}); move it away, or choose another "
                "--checkpoint"
            ) from error
        self.structure, self.rounds = state.structure, list(state.rounds)

    def _write(self) -> None:
        """Replace the checkpoint in one step: one file holds weights, structure and rounds."""
        assert self.structure is not None
        assert self.weights is not None
        state = serialization.to_text(_State(self.structure, tuple(self.rounds[-_KEPT_ROUNDS:])))
        names = groups_text([name for name, _ in self.structure.groups])
        data = save(dict(self.weights), metadata={GROUPS: names, _STATE: state})
        path = self._checkpoint
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, partial = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                Path(partial).replace(path)
            finally:
                Path(partial).unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(
                f"{path} cannot be written: {error.strerror or error}; make room, or choose another --checkpoint"
            ) from error
