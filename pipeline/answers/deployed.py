"""Answers about deployed bundles: what runs on a board, what was staged, how a self-test went."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from pipeline.answers.answer import Answer, Record
from pipeline.answers.fields import Count, Seconds, Text, Word

Version = Annotated[str, Field(pattern=r"^[0-9]{4,9}-[0-9a-f]{12}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Pem = Annotated[str, Field(max_length=4096, pattern=r"^-----BEGIN PUBLIC KEY-----\n[A-Za-z0-9+/= \n-]*$")]


class DeployedVersion(Record):
    """One version on a board."""

    name: Version
    title: Word
    """Run and artifact, as the manifest has them."""
    version: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")]
    """The manifest's sha256; empty: it cannot be read."""
    bytes: Count
    deployed: Word | None = None
    by: Word | None = None
    checked: Literal["board", "host"] | None = None
    """Who checked its signature; None: it is unsigned, or by a key that nobody here knows."""


class Deployed(Answer):
    """The answer to ``deployment``."""

    verb: ClassVar[str] = "deployment"

    folder: Text
    current: DeployedVersion | None
    previous: DeployedVersion | None
    problem: Text | None = None
    """What of the version that runs is not as it was written."""
    trusted: list[Pem] = Field(max_length=100)
    contents: list[Sha256] = Field(max_length=200)
    free_bytes: Count
    verifier: bool
    """Whether the board can check signatures itself."""


class Trusted(Answer):
    """The answer to ``trust``."""

    verb: ClassVar[str] = "trust"

    trusted: list[Pem] = Field(max_length=100)


class Staged(Answer):
    """The answer to ``stage``."""

    verb: ClassVar[str] = "stage"

    name: Version
    signature: Literal["valid", "unsigned", "unchecked"]
    key: Sha256 | None


class SelfTested(Answer):
    """The answer to ``self_test``."""

    verb: ClassVar[str] = "self_test"
    concerns_candidate: ClassVar[bool] = True

    file: Word
    inputs: Count
    difference: Annotated[float, Field(ge=0, le=1e9)]
    """Largest, as a share of the largest score."""
    tolerance: Annotated[float, Field(gt=0, le=1)]
    ok: bool
    seconds: Seconds


class Offered(Answer):
    """The answer to ``offer``."""

    verb: ClassVar[str] = "offer"

    file: Annotated[str, Field(pattern=r"^[0-9a-f]{64}\.[a-z0-9]{1,16}$")] | None


class Switched(Answer):
    """The answer to ``switch``."""

    verb: ClassVar[str] = "switch"

    current: DeployedVersion | None
    previous: DeployedVersion | None
