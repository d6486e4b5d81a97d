"""A model measured or verified: its files, the engines built of them, then the worker and the sensor side by side."""

import os
from typing import Any, Dict

from device_agents import building, supervise
from device_agents.arguments import Measure, Verify
from device_agents.files import Files
from device_agents.holding import Holding
from device_agents.wire import Emit, Lines


class Work:
    """Runs models for ``caller``; the files lie below ``folder``, ``quota`` bytes at most."""

    def __init__(self, folder: str, quota: int, holding: Holding, caller: Lines) -> None:
        self._folder = folder
        self.files = Files(os.path.join(folder, "files"), quota)
        self._holding = holding
        self._caller = caller
        self._measured = 0

    def measure(self, asked: Measure, send: Emit) -> Dict[str, Any]:
        """Return the candidate's raw samples, and the power's; see ``measure.py``."""
        candidate, reference = self.files.paths([asked.candidate, asked.reference], asked.seed)
        asked = asked._replace(candidate=str(candidate), reference=reference)
        with self._holding.alone():
            asked = self._built(asked, send)
            with supervise.sensing(asked.power, self._caller) as sensor:
                job = dict(self._job("measure", asked), reference_first=self._is_next_swapped())
                result = supervise.work(job, asked.timeout_s, self._caller, send, sensor, asked.memory_share)
                if sensor:
                    blocks = result["candidate"]["blocks"]
                    result["power"] = sensor.finish(blocks[0]["start_s"], blocks[-1]["end_s"])
        return dict(result)

    def _is_next_swapped(self) -> bool:
        """Return whether the reference is loaded first: in every second process.

        A model that is loaded first is slower than the same one loaded second (0.25 % of 1 ms on an x86-64), by where
        its memory lies. Swapped, that is a part of what processes differ by, and cancels over several.
        """
        self._measured += 1
        return self._measured % 2 == 0

    def verify(self, asked: Verify, send: Emit) -> Dict[str, Any]:
        """Return the candidate's outputs; see ``verify.py``."""
        candidate, inputs = self.files.paths([asked.candidate, asked.inputs])
        asked = asked._replace(candidate=str(candidate), inputs=str(inputs))
        with self._holding.alone():  # its load would be in somebody else's figures
            asked = self._built(asked, send)
            job = self._job("verify", asked)
            return dict(supervise.work(job, asked.timeout_s, self._caller, send, None, asked.memory_share))

    def _built(self, asked: Any, send: Emit) -> Any:
        """Return ``asked`` with engines in place of the models, where its runtime needs them built on this board."""
        job = building.job(asked)
        if job is None:
            return asked
        return asked._replace(**supervise.work(job, building.limit_s(asked), self._caller, send))

    def _job(self, verb: str, asked: Any) -> Dict[str, Any]:
        return {"verb": verb, "arguments": asked._asdict(), "folder": self._folder}
