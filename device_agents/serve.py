"""The agent's loop: a request line in, events and one reply out, until the caller closes the line."""

import os
import select
from typing import TYPE_CHECKING, Any, Callable, Dict, Optional

from device_agents import arguments, hello, protocol, telemetry, wire
from device_agents.errors import AgentError
from device_agents.holding import Holding
from device_agents.protocol import BAD_REQUEST, INTERNAL
from device_agents.wire import Emit

if TYPE_CHECKING:
    from device_agents.deployment import Deployments
    from device_agents.work import Work


class Server:
    """Answers requests from ``caller`` on the file descriptor ``out``.

    What it keeps lies in ``folder``, ``quota`` bytes at most of models.
    """

    def __init__(self, folder: str, caller: wire.Lines, out: int, quota: int) -> None:
        self._folder = folder
        self._quota = quota
        self._caller = caller
        self._holding = Holding(folder, caller)
        self._out = out
        self._work: Optional["Work"] = None
        self._verbs: Dict[str, Callable[[Dict[str, Any], Emit], Dict[str, Any]]] = {
            "hello": self._hello,
            "telemetry": self._telemetry,
            "hold": self._hold,
            "release": self._release,
            "meter": self._meter,
            "measure": self._measure,
            "verify": self._verify,
            "deployment": self._deployment,
            "trust": self._trust,
            "stage": self._stage,
            "self_test": self._self_test,
            "offer": self._offer,
            "switch": self._switch,
        }

    def serve(self) -> None:
        """Answer until the line closes; by then every process that was started is gone, and the board as it was."""
        try:
            while True:
                line = self._caller.pop()
                if line is not None:
                    self._holding.busy()
                    self._answer(line)
                    self._holding.quiet()
                elif self._caller.open:
                    self._listen()
                else:
                    return
        except (wire.CallerGoneError, BrokenPipeError):
            return
        finally:
            self._holding.release()

    def _listen(self) -> None:
        """Read what the caller says; a caller silent for too long loses the board, and then its agent.

        Raises:
            CallerGoneError: it has been silent for so long.
        """
        if select.select([self._caller.fd], [], [], self._holding.patience_s())[0]:
            self._caller.fill()
        elif not self._holding.lapse():
            raise wire.CallerGoneError()

    def _answer(self, line: bytes) -> None:
        number: Optional[int] = None

        def send(message: Dict[str, Any]) -> None:
            wire.send(self._out, dict(message, id=number))

        try:
            request = protocol.decode(line)
            number = request.get("id")
            verb = self._verbs.get(str(request.get("verb")))
            if verb is None:
                known = ", ".join(sorted(self._verbs))
                raise AgentError(BAD_REQUEST, "unknown verb %.50r; known: %s" % (request.get("verb"), known))
            send({"ok": True, "result": verb(request, send)})
        except (wire.CallerGoneError, BrokenPipeError):
            raise
        except protocol.ProtocolError as error:
            send(_failure(BAD_REQUEST, str(error)))
        except AgentError as error:
            send(_failure(error.kind, str(error)))
        except Exception as error:  # the one broad net: whatever else goes wrong, the caller gets a reply
            import traceback  # seldom needed, never small

            traceback.print_exc()
            send(_failure(INTERNAL, "%s: %s" % (type(error).__name__, error)))

    def _hello(self, request: Dict[str, Any], send: Emit) -> Dict[str, Any]:
        del send
        return dict(hello.facts(self._folder, arguments.hello(request).power), holder=self._holding.holder())

    def _telemetry(self, request: Dict[str, Any], send: Emit) -> Dict[str, Any]:
        del send
        arguments.telemetry(request)
        return telemetry.now(self._folder)

    def _hold(self, request: Dict[str, Any], send: Emit) -> Dict[str, Any]:
        return self._holding.hold(arguments.hold(request), send)

    def _release(self, request: Dict[str, Any], send: Emit) -> Dict[str, Any]:
        del send
        arguments.release(request)
        return self._holding.release()

    def _meter(self, request: Dict[str, Any], send: Emit) -> Dict[str, Any]:
        from device_agents import meter, strain  # not above: hello has to be quick

        asked = arguments.meter(request)
        with self._holding.alone():
            if not asked.power.wanted:
                return strain.run(asked.seconds, asked.threads, self._folder, self._caller, send)
            return meter.run(asked.power, asked.seconds, asked.threads, self._folder, self._caller, send)

    def _measure(self, request: Dict[str, Any], send: Emit) -> Dict[str, Any]:
        return self._at_work().measure(arguments.measure(request), send)

    def _verify(self, request: Dict[str, Any], send: Emit) -> Dict[str, Any]:
        return self._at_work().verify(arguments.verify(request), send)

    def _deployment(self, request: Dict[str, Any], send: Emit) -> Dict[str, Any]:
        del send
        asked = arguments.deployment(request)
        from device_agents.deployment import status  # not above: hello has to be quick

        return status(asked)

    def _trust(self, request: Dict[str, Any], send: Emit) -> Dict[str, Any]:
        del send
        asked = arguments.trust(request)
        return _deployments(asked.dir).trust(asked)

    def _stage(self, request: Dict[str, Any], send: Emit) -> Dict[str, Any]:
        del send
        asked = arguments.stage(request)
        return _deployments(asked.dir).stage(asked, self._at_work().files)

    def _self_test(self, request: Dict[str, Any], send: Emit) -> Dict[str, Any]:
        del send
        asked = arguments.self_test(request)
        with self._holding.alone():  # its load would be in somebody else's figures
            return _deployments(asked.dir).self_test(asked)

    def _offer(self, request: Dict[str, Any], send: Emit) -> Dict[str, Any]:
        del send
        return _deployments(arguments.offer(request).dir).offer(os.path.join(self._folder, "files"))

    def _switch(self, request: Dict[str, Any], send: Emit) -> Dict[str, Any]:
        del send
        asked = arguments.switch(request)
        return _deployments(asked.dir).switch(asked)

    def _at_work(self) -> "Work":
        if self._work is None:
            from device_agents.work import Work  # not above: it brings most of the agent, and hello has to be quick

            self._work = Work(self._folder, self._quota, self._holding, self._caller)
        return self._work


def _deployments(folder: str) -> "Deployments":
    from device_agents.deployment import Deployments  # not above: hello has to be quick

    return Deployments(folder)


def _failure(kind: str, message: str) -> Dict[str, Any]:
    return {"ok": False, "error": {"kind": kind, "message": message}}
