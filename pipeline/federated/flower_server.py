"""Flower's server with federated averaging that checks: who may join, what may be averaged, who is left out."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from flwr.common import (
    EvaluateIns,
    FitIns,
    FitRes,
    GetParametersIns,
    GetPropertiesIns,
    Parameters,
    ReconnectIns,
)
from flwr.server import ServerConfig, start_server
from flwr.server.client_manager import ClientManager
from flwr.server.client_proxy import ClientProxy
from flwr.server.strategy import FedAvg

from pipeline.errors import FederationError, PipelineError, first_line
from pipeline.federated.address import Address
from pipeline.federated.federation import Answer, Federation, Round
from pipeline.federated.flower import MESSAGE_BYTES, TENSORS, hush
from pipeline.federated.messages import Hello, RoundCall, hello_from, learnt_from
from pipeline.printable import printable

_GREETING_S = 20.0
"""So long may a site take to say who it is."""
_POLL_S = 0.1
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """How a federation is run."""

    address: Address
    rounds: int
    """In all, those of an earlier part included."""
    sites: int
    """That are waited for before the first round."""
    least: int
    """Sites that a round needs."""
    updates: int
    """Gradient steps of a site in a round."""
    round_timeout_s: float
    certificates: tuple[bytes, bytes, bytes] | None = None
    """Of the authority, of the server, and its key, in PEM; None: not encrypted."""


@dataclass(frozen=True, slots=True)
class _Present:
    """A site that takes part, and the way to it."""

    hello: Hello
    proxy: ClientProxy


@dataclass(slots=True)
class Heard:
    """Who is told what happens, and whether the user asked to stop."""

    said: Callable[[str], None]
    closed: Callable[[Round], None]
    stopping: Callable[[], bool] = field(default=lambda: False)


def serve(settings: ServerSettings, federation: Federation, heard: Heard) -> None:
    """Run the rounds that are still to come; return when they are over, or the user asked to stop.

    Raises:
        FederationError: no site's weights can be begun with.
        OutputError: the checkpoint cannot be written.
    """
    hush()
    strategy = CheckedFedAvg(settings, federation, heard)
    start_server(
        server_address=str(settings.address),
        config=ServerConfig(num_rounds=settings.rounds - federation.done, round_timeout=settings.round_timeout_s),
        strategy=strategy,
        grpc_max_message_length=MESSAGE_BYTES,
        certificates=settings.certificates,
    )
    if strategy.failure is not None:
        raise strategy.failure


class CheckedFedAvg(FedAvg):  # type: ignore[misc]  # Flower is not followed
    """FedAvg over the sites that may take part; after a failure, or when asked to stop, rounds to come are empty."""

    def __init__(self, settings: ServerSettings, federation: Federation, heard: Heard) -> None:
        """Know nobody yet."""
        super().__init__()
        self.failure: PipelineError | None = None
        self._settings, self._federation, self._heard = settings, federation, heard
        self._present: dict[str, _Present] = {}
        """By the site's name."""
        self._greeted: set[str] = set()
        """Flower's names of connections."""
        self._asked: dict[str, _Present] = {}
        """In the round that is under way."""
        self._refused: Mapping[str, str] = {}
        """In the last round."""
        self._known: set[str] = set()
        """Names of all sites that ever joined."""
        self._handlers = {number: signal.getsignal(number) for number in _SIGNALS}
        """The program's own; Flower puts its in their place as its server starts."""

    # ------------------------------------------------------------ Flower's questions

    def initialize_parameters(self, client_manager: ClientManager) -> Parameters:
        """Return what all sites begin with: the checkpoint's network, or that of the site with most trials."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._guarded(lambda: self._begin(client_manager))
        return Parameters(tensors=[], tensor_type=TENSORS) if self._is_over else self._parameters()

    def configure_fit(
        self, server_round: int, parameters: Parameters, client_manager: ClientManager
    ) -> list[tuple[ClientProxy, FitIns]]:
        """Ask every site that is present, once enough are."""
        if self._is_over or not self._wait(client_manager, self._settings.least):
            return []
        self._asked = dict(self._present)
        call = RoundCall(
            number=self._federation.done + 1, of=self._settings.rounds, updates=self._settings.updates
        ).scalars()
        return [(one.proxy, FitIns(self._parameters(), call)) for one in self._asked.values()]

    def aggregate_fit(
        self, server_round: int, results: Sequence[tuple[ClientProxy, FitRes]], failures: Sequence[object]
    ) -> tuple[Parameters | None, dict[str, Any]]:
        """Average what came back."""
        by_connection = {one.proxy.cid: one for one in self._asked.values()}
        answers: list[Answer] = []
        refused: dict[str, str] = {}
        for proxy, result in results:
            one = by_connection.pop(proxy.cid)
            try:
                learnt = learnt_from(result.metrics)
                answers.append(Answer(hello=one.hello, policy=_policy_in(result.parameters), learnt=learnt))
            except ValueError as error:
                refused[one.hello.site] = str(error)
        lost = [one.hello.site for one in by_connection.values()]

        def close() -> None:
            done = self._federation.close_round(answers, least=self._settings.least, refused=refused, lost=lost)
            self._refused = done.refused
            self._heard.closed(done)

        self._guarded(close)
        return self._parameters(), {}

    def configure_evaluate(
        self, server_round: int, parameters: Parameters, client_manager: ClientManager
    ) -> list[tuple[ClientProxy, EvaluateIns]]:
        """Send the mean to every site that was asked and is still there."""
        connected = client_manager.all()
        call = {"round": self._federation.done, "rounds": self._settings.rounds, "updates": self._settings.updates}
        asked, self._asked = self._asked, {}
        return [
            (one.proxy, EvaluateIns(self._parameters(), {**call, "refused": printable(self._refused.get(site, ""))}))
            for site, one in asked.items()
            if one.proxy.cid in connected
        ]

    def aggregate_evaluate(
        self, server_round: int, results: Sequence[object], failures: Sequence[object]
    ) -> tuple[None, dict[str, Any]]:
        """Take note of nothing: sites judge nothing for others."""
        return None, {}

    # ------------------------------------------------------------ who takes part

    @property
    def _is_over(self) -> bool:
        return self.failure is not None or self._heard.stopping()

    def _guarded(self, work: Callable[[], None]) -> None:
        """Do something whose failure ends the federation; Flower's server has to come to its end first."""
        try:
            work()
        except PipelineError as error:
            self.failure = error

    def _parameters(self) -> Parameters:
        return Parameters(tensors=[self._federation.policy], tensor_type=TENSORS)

    def _begin(self, client_manager: ClientManager) -> None:
        """Wait for all sites that are to take part, and see to a network to begin with."""
        settings, federation = self._settings, self._federation
        if not self._wait(client_manager, settings.sites) or federation.weights is not None:
            return
        for one in sorted(self._present.values(), key=lambda one: (-one.hello.trials, one.hello.site)):
            try:
                sent = one.proxy.get_parameters(GetParametersIns(config={}), timeout=_GREETING_S, group_id=0)
                federation.begin(_policy_in(sent.parameters))
            except PipelineError:
                raise
            except Exception as error:  # grpc's, Flower's own, and what the weights are refused for
                self._heard.said(f"site {one.hello.site}: its network cannot be begun with: {first_line(error)}")
            else:
                self._heard.said(f"all begin with the network of site {one.hello.site}")
                return
        raise FederationError("no site sent a network that can be begun with; look into what they say")

    def _wait(self, client_manager: ClientManager, wanted: int) -> bool:
        """Return whether so many sites take part; False: it is over before."""
        said = False
        while True:
            self._greet(client_manager)
            if len(self._present) >= wanted:
                return True
            if self._is_over:
                return False
            if not said:
                self._heard.said(f"{len(self._present)} of {wanted} sites are there: waiting for the others")
                said = True
            time.sleep(_POLL_S)

    def _greet(self, client_manager: ClientManager) -> None:
        """Get to know who has connected, and forget who has gone."""
        connected: dict[str, ClientProxy] = dict(client_manager.all())
        self._present = {site: one for site, one in self._present.items() if one.proxy.cid in connected}
        self._greeted &= set(connected)
        new = [proxy for cid, proxy in connected.items() if cid not in self._greeted]
        if not new:
            return
        with ThreadPoolExecutor(len(new)) as pool:
            hellos = list(pool.map(_hello_of, new))
        for proxy, hello in zip(new, hellos, strict=True):
            self._greeted.add(proxy.cid)
            if isinstance(hello, Hello):
                self._let_in(proxy, hello)
            else:
                self._send_away(proxy, "a connection", hello)

    def _let_in(self, proxy: ClientProxy, hello: Hello) -> None:
        same = self._present.get(hello.site)
        if same is not None and same.hello.identity != hello.identity:
            self._send_away(proxy, f"a second site {hello.site}", "another site has this name; choose another --site")
            return
        why = self._federation.refusal(hello)
        if why is not None:
            self._send_away(proxy, f"site {hello.site}", f"it has another structure: {why}")
            return
        self._present[hello.site] = _Present(hello, proxy)
        came = "is back" if hello.site in self._known else "joined"
        self._known.add(hello.site)
        self._heard.said(f"site {hello.site} {came}: {hello.trials} trial{'' if hello.trials == 1 else 's'}")

    def _send_away(self, proxy: ClientProxy, who: str, why: str) -> None:
        self._heard.said(f"{who} is refused: {why}")
        with contextlib.suppress(Exception):  # it may be gone already
            proxy.get_properties(GetPropertiesIns(config={"refused": printable(why)}), timeout=_GREETING_S, group_id=0)
            proxy.reconnect(ReconnectIns(seconds=None), timeout=_GREETING_S, group_id=0)


def _hello_of(proxy: ClientProxy) -> Hello | str:
    """Return what a site says of itself, or why that cannot be used."""
    try:
        return hello_from(proxy.get_properties(GetPropertiesIns(config={}), timeout=_GREETING_S, group_id=0).properties)
    except Exception as error:  # grpc's, Flower's own, and what it may not say
        return first_line(error)


def _policy_in(parameters: Parameters) -> bytes:
    """Return the policy file in what a site sent.

    Raises:
        ValueError: it is something else.
    """
    if parameters.tensor_type != TENSORS or len(parameters.tensors) != 1:
        raise ValueError("its weights are not one policy file")
    return bytes(parameters.tensors[0])
