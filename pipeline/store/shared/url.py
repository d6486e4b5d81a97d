"""URL of a database of runs, and of the place of its files; its password is shown nowhere."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qsl, quote, urlencode, urlsplit

from pipeline.durations import parse_duration_s
from pipeline.errors import ConfigError, nearest

_DRIVERS = {
    "postgresql+psycopg": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",
    "sqlite": "sqlite",
}
"""Scheme → SQLAlchemy's."""
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_EXAMPLES = (
    "postgresql://USER@HOST/DATABASE?blobs=s3://BUCKET/pipeline, or sqlite:///runs.sqlite?blobs=FOLDER on a single host"
)

DEFAULT_LEASE_S = 30.0
LEAST_LEASE_S = 2.0


@dataclass(frozen=True, slots=True)
class SharedUrl:
    """A database of runs; as text, it is what was typed without the password.

    >>> parse_url("postgres://lab:secret@db:5433/runs?blobs=s3://lab/blobs&sslmode=require&lease=1m")
    SharedUrl(shown='postgres://lab:***@db:5433/runs?blobs=s3://lab/blobs&sslmode=require&lease=1m', lease_s=60.0)
    """

    shown: str
    database: str = field(repr=False)
    """For SQLAlchemy, with the password."""
    blobs: str = field(repr=False)
    """A folder, or a URL for fsspec."""
    lease_s: float = DEFAULT_LEASE_S

    def __str__(self) -> str:
        return self.shown


def is_url(text: str) -> bool:
    """Return whether a text is a URL rather than a folder.

    >>> is_url("sqlite:///runs.sqlite"), is_url("runs/2026"), is_url("C:/runs")
    (True, False, False)
    """
    return _URL.match(text) is not None


def parse_url(text: str) -> SharedUrl:
    """Return the database and the place of files that a URL names.

    Raises:
        ConfigError: it is none of either; the message does not repeat it.
    """
    scheme = text.partition("://")[0].lower()
    if scheme not in _DRIVERS:
        raise ConfigError(f"{scheme}:// holds no runs{nearest(scheme, _DRIVERS)}; give a folder, or {_EXAMPLES}")
    parts = _split(text)
    query = parse_qsl(parts.query, keep_blank_values=True)
    ours = dict(pair for pair in query if pair[0] in ("blobs", "lease"))
    shown = f"{scheme}://{_authority_shown(parts)}{parts.path}"
    if not ours.get("blobs"):
        raise ConfigError(
            f"{shown}: where do the files go? Name a folder that all hosts see, or an S3-like store: {_EXAMPLES}"
        )
    others = urlencode([pair for pair in query if pair[0] not in ours], quote_via=quote)
    database = f"{_DRIVERS[scheme]}://{parts.netloc}{parts.path}{'?' if others else ''}{others}"
    options = "&".join(f"{key}={_value_shown(key, value)}" for key, value in query)
    return SharedUrl(f"{shown}?{options}", database, ours["blobs"], _lease_s(ours.get("lease"), shown))


def _split(text: str) -> SplitResult:
    """Split the URL; what a password with signs of its own would garble is refused."""
    advice = f"write @ : / ? # % of a password as %40 %3A %2F %3F %23 %25; {_EXAMPLES}"
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018 - raises where it is no number
    except ValueError as error:
        raise ConfigError(f"the URL of the runs cannot be read; {advice}") from error
    others = [pair for pair in parse_qsl(parts.query, keep_blank_values=True) if pair[0] != "blobs"]
    if parts.fragment or any("@" in value for value in (parts.path, *itertools.chain(*others))):
        raise ConfigError(f"the URL of the runs cannot be read; {advice}")
    return parts


def _authority_shown(parts: SplitResult) -> str:
    user, at, host = parts.netloc.rpartition("@")
    name, colon, _ = user.partition(":")
    return f"{name}{':***' if colon else ''}{at}{host}"


def _value_shown(key: str, value: str) -> str:
    if "pass" in key.lower():
        return "***"
    return hide_password(value) if key == "blobs" else value


def hide_password(url: str) -> str:
    """Return a URL without its password.

    >>> hide_password("sftp://lab:secret@nas/blobs"), hide_password("s3://lab/blobs")
    ('sftp://lab:***@nas/blobs', 's3://lab/blobs')
    """
    return re.sub(r"(://[^/:@]*):.*@", r"\1:***@", url)


def _lease_s(text: str | None, shown: str) -> float:
    try:
        seconds = DEFAULT_LEASE_S if text is None else parse_duration_s(text)
    except ValueError as error:
        raise ConfigError(f"{shown}: lease {error}, found {text}") from error
    if seconds < LEAST_LEASE_S:
        raise ConfigError(f"{shown}: a lease should be of {LEAST_LEASE_S:.0f} s at least, found {text}")
    return seconds
