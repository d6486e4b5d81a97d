"""Kind of decision: what holds for the whole network, and changes what every level costs, as its precision.

A plan is a set of decisions. The levels, one for each group of channels, a strategy searches for; whatever holds for
the whole network is decided before, by what the device measures of the uncut network, so that levels are masked, priced
and tried as networks really run there. A kind is one module. It needs a setting of its name, and a fact in
``store.facts.DECISIONS``; ``run.decisions`` does the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar

from pipeline.config import RunConfig
from pipeline.devices.agent_client import Agent
from pipeline.export.format import Format
from pipeline.objective.task import Task
from pipeline.records import Figures
from pipeline.run.base_model import Base
from pipeline.run.context import Context
from pipeline.store.facts import Fact

AUTO = "auto"
"""A setting that lets the device decide."""
AS_ASKED = "as asked for"
"""Why a value was not even tried: the setting names another."""


@dataclass(frozen=True)
class Unfit(Exception):  # noqa: N818 - it is caught where decisions are made, and is no error there
    """Why a value is not used, in a sentence."""

    why: str


class Circumstances(NamedTuple):
    """What is known before anything is made or measured."""

    config: RunConfig
    agent: Agent
    format: Format
    task: Task


class Decision(Protocol):
    """What was decided, as it is stored."""

    @property
    def why(self) -> str:
        """In a sentence."""

    @property
    def changes(self) -> bool:
        """Whether networks are made otherwise than the base model is."""

    @property
    def base(self) -> Figures | None:
        """The uncut network made so, measured beside the base model; None: it was not tried."""


D = TypeVar("D", bound=Decision)


class Kind(Protocol[D]):
    """One kind of decision."""

    fact: Fact[D]
    """Where it is stored; its key is what the setting, the recipe and the report call it."""
    unchanged: str
    """The value that leaves networks as the base model is."""

    def wanted(self, config: RunConfig) -> str:
        """Return what the settings ask for: ``auto``, or a value by its name."""

    def values(self, context: Context) -> Sequence[str]:
        """Return the values that ``auto`` tries, beside the one that changes nothing, the least change first."""

    def require_possible(self, known: Circumstances, value: str) -> None:
        """Mask: raise Unfit where device, target or task rules a value out before anything is made."""

    def tried(self, context: Context, base: Base, value: str, *, is_asked_for: bool) -> D:
        """Return the decision for a value, the uncut network made so, judged and measured beside the base model.

        Args:
            context: earlier decisions applied.
            base: the base model.
            value: which.
            is_asked_for: by its name: what speaks against it is said, and does not decide.

        Raises:
            Unfit: the device gains nothing by it, or the answers suffer.
        """

    def stays(self, why: str) -> D:
        """Return the decision to leave networks as they are."""

    def applied(self, context: Context, decision: D) -> Context:
        """Return the context in which networks are written, fed or measured as decided."""

    def in_words(self, decision: D) -> str:
        """Return what the value is called where it is shown."""

    def in_recipe(self, decision: D) -> Mapping[str, Any]:
        """Return what a recipe says of it, as JSON values; whoever applies the recipe goes by that."""
