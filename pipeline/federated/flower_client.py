"""Flower's client of a site: answers what the server asks, and comes back after a lost link."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import grpc
from flwr.client import Client, start_client
from flwr.common import (
    Code,
    EvaluateIns,
    EvaluateRes,
    FitIns,
    FitRes,
    GetParametersIns,
    GetParametersRes,
    GetPropertiesIns,
    GetPropertiesRes,
    Parameters,
    Status,
)

from pipeline.errors import FederationError, first_line
from pipeline.federated.address import Address
from pipeline.federated.flower import MESSAGE_BYTES, TENSORS, hush
from pipeline.federated.messages import Learnt, RoundCall, Scalars, call_from
from pipeline.federated.site import Site
from pipeline.printable import printable

_OK = Status(code=Code.OK, message="")
_PAUSE_S = 1.0
"""Between two tries to reach the server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalRound:
    """What this site did in a round."""

    number: int
    of: int
    loss: float
    updates: int


class Participant(Client):  # type: ignore[misc]  # Flower is not followed
    """A site as Flower's server sees it."""

    def __init__(self, site: Site, said: Callable[[str], None]) -> None:
        """Take part in nothing yet.

        Args:
            site: the run.
            said: hears what happens.
        """
        self.refused = ""
        """Why the server did not let the site take part."""
        self.rounds: list[LocalRound] = []
        """In which the site learnt."""
        self.kept: RoundCall | None = None
        """The round whose mean the run has."""
        self._site, self._said = site, said

    @property
    def is_finished(self) -> bool:
        """Whether the run has the mean of the last round."""
        return self.kept is not None and self.kept.number == self.kept.of

    def get_properties(self, ins: GetPropertiesIns) -> GetPropertiesRes:
        """Say who this is; or hear why the site may not take part."""
        if "refused" in ins.config:
            self.refused = printable(str(ins.config["refused"]))
        return GetPropertiesRes(status=_OK, properties=self._site.hello.scalars())

    def get_parameters(self, ins: GetParametersIns) -> GetParametersRes:
        """Send the network as it is, for all to begin with."""
        return GetParametersRes(status=_OK, parameters=_parameters(self._site.policy()))

    def fit(self, ins: FitIns) -> FitRes:
        """Learn from the federation's network on, and send what came of it.

        Raises:
            FederationError: that network, or what was asked, cannot be used.
        """
        call = _checked(ins.config)
        try:
            learnt, how = self._site.train(_policy_in(ins.parameters), call.updates)
        except ValueError as error:
            raise FederationError(
                f"round {call.number}: the network from the server cannot be learnt from: {error}"
            ) from error
        self._note(call, how)
        return FitRes(
            status=_OK, parameters=_parameters(learnt), num_examples=self._site.hello.trials, metrics=how.scalars()
        )

    def evaluate(self, ins: EvaluateIns) -> EvaluateRes:
        """Keep the mean; nothing is said of how good it is here.

        Raises:
            FederationError: it cannot be used.
        """
        call = _checked(ins.config)
        if why := printable(str(ins.config.get("refused", ""))):
            self._said(f"round {call.number}: the server left this site's weights out: {why}")
        try:
            self._site.keep(_policy_in(ins.parameters), call.number, call.of)
        except ValueError as error:
            raise FederationError(f"round {call.number}: the mean from the server cannot be used: {error}") from error
        self.kept = call
        return EvaluateRes(status=_OK, loss=0.0, num_examples=1, metrics={})

    def _note(self, call: RoundCall, how: Learnt) -> None:
        self.rounds.append(LocalRound(number=call.number, of=call.of, loss=how.loss, updates=how.updates))
        self._said(f"round {call.number} of {call.of}: {how.updates} updates, loss {how.loss:.4g}")


def take_part(
    participant: Participant,
    address: Address,
    certificate: bytes | None,
    patience_s: float,
    said: Callable[[str], None],
) -> None:
    """Answer a server until it has run its rounds.

    Args:
        participant: the site.
        address: of the server.
        certificate: of its authority, in PEM; None: not encrypted.
        patience_s: so long is a server waited for that cannot be reached, at first and after a lost link.
        said: hears what happens.

    Raises:
        FederationError: the server was not reached in time, refused the site, or ended before its last round.
    """
    hush()
    until = time.monotonic() + patience_s
    said(f"waiting for the server {address}")
    while True:
        rounds = len(participant.rounds)
        try:
            start_client(
                server_address=str(address), client=participant, grpc_max_message_length=MESSAGE_BYTES,
                root_certificates=certificate, insecure=certificate is None,
            )  # fmt: skip
        except (grpc.RpcError, StopIteration) as error:  # the second where the server closed the stream
            until = time.monotonic() + patience_s if len(participant.rounds) > rounds else until
            if participant.is_finished:
                return
            if time.monotonic() > until:
                raise FederationError(
                    f"the server {address} cannot be reached: {_reason(error)}; is it running, and is the address its "
                    f"own?{_kept(participant)}"
                ) from error
            time.sleep(_PAUSE_S)
        else:
            break
    if participant.refused:
        raise FederationError(f"the server {address} refused this site: {participant.refused}")
    if not participant.is_finished:
        raise FederationError(
            f"the server {address} ended before its last round{_kept(participant)}; join again when it goes on"
        )


def _kept(participant: Participant) -> str:
    kept = participant.kept
    return "" if kept is None else f"; the run keeps what was learnt by round {kept.number} of {kept.of}"


def _reason(error: Exception) -> str:
    details = error.details() if isinstance(error, grpc.Call) else None
    return printable(details or first_line(error), 200)


def _checked(scalars: Scalars) -> RoundCall:
    try:
        return call_from(scalars)
    except ValueError as error:
        raise FederationError(f"the server asks what cannot be done: {error}") from error


def _parameters(policy: bytes) -> Parameters:
    return Parameters(tensors=[policy], tensor_type=TENSORS)


def _policy_in(parameters: Parameters) -> bytes:
    """Return the policy file that the server sent.

    Raises:
        ValueError: it sent something else.
    """
    if parameters.tensor_type != TENSORS or len(parameters.tensors) != 1:
        raise ValueError("it is not one policy file")
    return bytes(parameters.tensors[0])
