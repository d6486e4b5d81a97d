"""The agent's loop: a request line in, events and one reply out, until the caller closes the line."""

import os
import select
from typing import Any, Callable, Dict, Optional

from device_agents import arguments, board, building, hello, meter, protocol, strain, supervise, wire
from device_agents.errors import AgentError
from device_agents.files import QUOTA_BYTES, Files
from device_agents.holding import Holding
from device_agents.protocol import BAD_REQUEST, INTERNAL

Emit = Callable[[Dict[str, Any]], None]


class Server:
    """Answers requests from ``caller`` on the file descriptor ``out``; its files lie in ``folder``."""

    def __init__(self, folder: str, caller: wire.Lines, out: int, quota: int = QUOTA_BYTES) -> None:
        self._folder = folder
        self._files = Files(os.path.join(folder, "files"), quota)
        self._caller = caller
        self._holding = Holding(folder, caller)
        self._out = out
        self._verbs: Dict[str, Callable[[Dict[str, Any], Emit], Dict[str, Any]]] = {
            "hello": self._hello,
            "telemetry": self._telemetry,
            "hold": self._hold,
            "release": self._release,
            "meter": self._meter,
            "measure": self._measure,
            "verify": self._verify,
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
        except (supervise.CallerGoneError, BrokenPipeError):
            return
        finally:
            self._holding.release()

    def _listen(self) -> None:
        """Read what the caller says; a caller silent for too long does not keep the board."""
        if select.select([self._caller.fd], [], [], self._holding.patience_s())[0]:
            self._caller.fill()
        else:
            self._holding.lapse()

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
        except (supervise.CallerGoneError, BrokenPipeError):
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
        return board.telemetry(self._folder)

    def _hold(self, request: Dict[str, Any], send: Emit) -> Dict[str, Any]:
        return self._holding.hold(arguments.hold(request), send)

    def _release(self, request: Dict[str, Any], send: Emit) -> Dict[str, Any]:
        del send
        arguments.release(request)
        return self._holding.release()

    def _meter(self, request: Dict[str, Any], send: Emit) -> Dict[str, Any]:
        asked = arguments.meter(request)
        with self._holding.alone():
            if not asked.power.wanted:
                return strain.run(asked.seconds, asked.threads, self._folder, self._caller, send)
            return meter.run(asked.power, asked.seconds, asked.threads, self._folder, self._caller, send)

    def _measure(self, request: Dict[str, Any], send: Emit) -> Dict[str, Any]:
        asked = arguments.measure(request)
        candidate, reference = self._files.paths([asked.candidate, asked.reference], asked.seed)
        asked = asked._replace(candidate=str(candidate), reference=reference)
        with self._holding.alone():
            asked = self._built(asked, send)
            with supervise.sensing(asked.power, self._caller) as sensor:
                result = supervise.work(self._job("measure", asked), asked.timeout_s, self._caller, send, sensor)
                if sensor:
                    blocks = result["candidate"]["blocks"]
                    result["power"] = sensor.finish(blocks[0]["start_s"], blocks[-1]["end_s"])
        return dict(result)

    def _verify(self, request: Dict[str, Any], send: Emit) -> Dict[str, Any]:
        asked = arguments.verify(request)
        candidate, inputs = self._files.paths([asked.candidate, asked.inputs])
        asked = asked._replace(candidate=str(candidate), inputs=str(inputs))
        with self._holding.alone():  # its load would be in somebody else's figures
            asked = self._built(asked, send)
            return dict(supervise.work(self._job("verify", asked), asked.timeout_s, self._caller, send))

    def _built(self, asked: Any, send: Emit) -> Any:
        """Return ``asked`` with engines in place of the models, where its runtime needs them built on this board."""
        job = building.job(asked)
        if job is None:
            return asked
        return asked._replace(**supervise.work(job, building.limit_s(asked), self._caller, send))

    def _job(self, verb: str, asked: Any) -> Dict[str, Any]:
        return {"verb": verb, "arguments": asked._asdict(), "folder": self._folder}


def _failure(kind: str, message: str) -> Dict[str, Any]:
    return {"ok": False, "error": {"kind": kind, "message": message}}
