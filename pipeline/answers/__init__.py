"""What an agent may answer: one schema a verb, with bounds that come from the request.

A board is not trusted, nor is a recording, nor what another user of the board wrote there. ``Answer.of`` is where
their values become ours; behind it, every figure is one that can be true and every text one that can be shown.
"""

from __future__ import annotations

from pipeline.answers.answer import Answer, shown
from pipeline.answers.board import Held, Hello, Progress, State, Telemetry, Waiting
from pipeline.answers.deployed import (
    Deployed,
    DeployedVersion,
    Offered,
    SelfTested,
    Staged,
    Switched,
    Trusted,
)
from pipeline.answers.measured import Block, Measured, Powered, Settled
from pipeline.answers.meter import Metered, Phase
from pipeline.answers.size_limits import SMALL, SizeLimits
from pipeline.answers.verified import Verified

__all__ = [
    "ANSWERS",
    "SMALL",
    "Answer",
    "Block",
    "Deployed",
    "DeployedVersion",
    "Held",
    "Hello",
    "Measured",
    "Metered",
    "Offered",
    "Phase",
    "Powered",
    "Progress",
    "SelfTested",
    "Settled",
    "SizeLimits",
    "Staged",
    "State",
    "Switched",
    "Telemetry",
    "Trusted",
    "Verified",
    "Waiting",
    "shown",
]  # fmt: skip

ANSWERS: tuple[type[Answer], ...] = (
    Hello, Telemetry, Held, Metered, Measured, Verified, Deployed, Trusted, Staged, SelfTested, Offered, Switched,
)  # fmt: skip
"""Of every verb that the host asks."""
