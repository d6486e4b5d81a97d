"""Replay session: answers every request from a recording; makes nothing up.

A measurement is looked up by what was measured, never by when: the candidate, the reference, the runtime and how it was
measured. Several answers to one question come in their recorded order, and the last one stays; what failed on the board
fails again. Where the files are not the very ones (another machine trains to other weights), those of the same
structure answer for them: latency and power depend on shapes, not on trained values. The outputs of a network do depend
on them: `verify` takes the very file.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from device_agents import protocol
from pipeline.devices.recording import Answer, Failure, Header, Result, read_answers, read_header, structure_of
from pipeline.devices.sessions import MAX_LINE_BYTES, OnLine
from pipeline.errors import AgentError
from pipeline.records import Device

_CONDITIONS = ("runtime", "options", "threads", "affinity", "spinning")
_ASKED: Mapping[str, tuple[str, ...]] = {
    "measure": (*_CONDITIONS, "power", "min_s", "max_s", "block_s", "ci_rel"),
    "verify": ("inputs", *_CONDITIONS),
}
"""What makes a question another question, besides its files; limits on time and cooling do not."""
_FILES: Mapping[str, tuple[str, ...]] = {"measure": ("candidate", "reference"), "verify": ("candidate",)}
_WITHOUT_TRACE: Mapping[str, Mapping[str, Any]] = {
    "hold": {"applied": {}, "refused": {}},
    "release": {"restored": {}},
    "telemetry": {},
}
"""What is answered where nothing was recorded: there is no board to hold, and of its state nothing is known."""


class ReplaySession:
    """Answers from a recording; what that does not hold is an error that says what it was made with."""

    def __init__(self, device: Device) -> None:
        if device.recording is None:
            raise AgentError(f"{device.name}: there is no recording to play back; add `recording: FILE`")
        self._path = Path(device.recording)
        self._format = device.format
        self._header = read_header(self._path)
        self._structures: dict[str, str] = {}
        self._answers: dict[str, list[Answer]] = defaultdict(list)
        self._given: dict[str, int] = defaultdict(int)
        for answer in read_answers(self._path):
            self._structures.update(answer.structures)
            for question in self._questions(answer.verb, answer.arguments):
                self._answers[question].append(answer)

    def put(self, source: bytes | Path, name: str) -> int:
        """See ``Session.put``; only the file's structure is kept, and nothing goes anywhere."""
        if name not in self._structures:
            content = source if isinstance(source, bytes) else source.read_bytes()
            structure = structure_of(name, content, self._format)
            if structure is not None:
                self._structures[name] = structure
        return 0

    def exchange(self, line: bytes, deadline_s: float, on_line: OnLine, max_bytes: int = MAX_LINE_BYTES) -> None:
        """See ``Session.exchange``; the answer is there at once, and was bounded when it was read."""
        del deadline_s, max_bytes
        request = json.loads(line)
        number, verb = request.pop("id"), request.pop("verb")
        request.pop("v")
        reply = self._reply(verb, request)
        on_line(protocol.encode({"id": number, **reply}).rstrip(b"\n"))

    def close(self) -> None:
        """See ``Session.close``: nothing is open."""

    def _reply(self, verb: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        found = self._found(verb, arguments)
        if found is None:
            kind = protocol.REFUSED if verb in _FILES else protocol.BAD_REQUEST
            found = Failure(kind, self._absent(verb, arguments))
        if isinstance(found, Failure):
            return {"ok": False, "error": {"kind": found.kind, "message": found.message}}
        return {"ok": True, "result": _marked(verb, found)}

    def _found(self, verb: str, arguments: Mapping[str, Any]) -> Result | None:
        for question in self._questions(verb, arguments):
            if answers := self._answers.get(question):
                turn = self._given[question]
                self._given[question] += 1
                answer = answers[min(turn, len(answers) - 1)]
                return answer.failure or answer.result
        return _WITHOUT_TRACE.get(verb)

    def _questions(self, verb: str, arguments: Mapping[str, Any]) -> list[str]:
        """Return what is asked: by the very files, then by their structures."""
        files = [arguments.get(name) for name in _FILES.get(verb, ())]
        asked = [arguments.get(name) for name in _ASKED.get(verb, ())]
        questions = [json.dumps([verb, files, asked], sort_keys=True)]
        structures = [self._structures.get(name) if isinstance(name, str) else name for name in files]
        if verb == "measure" and structures[0]:
            questions.append(json.dumps(["alike", structures, asked], sort_keys=True))
        return questions

    def _absent(self, verb: str, arguments: Mapping[str, Any]) -> str:
        what = {"measure": "measurement of this network, measured like this,", "verify": "outputs of this very file"}
        about = ", ".join(f"{key} {value}" for key, value in _made_with(self._header).items())
        name = arguments.get("candidate")
        return (
            f"the recording {self._path} holds no {what.get(verb, f'answer to {verb}')}"
            + (f" ({name[:12]}…)" if isinstance(name, str) else "")
            + f"; it was made with {about}: play it back with the same, or measure on the board"
        )


def _marked(verb: str, result: Mapping[str, Any]) -> dict[str, Any]:
    """Return an answer that says that it is replayed, wherever it is shown."""
    if verb == "hello":
        return {**result, "board": f"{result.get('board') or 'unknown board'}, replayed"}
    if verb == "measure":
        conditions = result.get("conditions")
        return {**result, "conditions": {**(conditions if isinstance(conditions, dict) else {}), "replayed": True}}
    return dict(result)


def _made_with(header: Header) -> dict[str, Any]:
    device = header.device
    return {**header.about, "device": device.name, "runtime": device.runtime, "threads": device.measure.threads}
