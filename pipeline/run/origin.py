"""Origin of a run: SHA-256 of the user's code, model file and weights, so that a resumed run reads the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config import is_model_file
from pipeline.errors import UserError
from pipeline.plugins import is_file
from pipeline.regular_file import WEIGHTS_BYTES, home_expanded, opened
from pipeline.store import Store
from pipeline.store.facts import BASE_WEIGHTS, CODE, WEIGHTS_FILE

if TYPE_CHECKING:  # torch takes seconds to import, and what has changed is reported before
    from pipeline.config import RunConfig


def remember_origin(store: Store, config: RunConfig, *, format: str = "onnx", plugins: Iterable[Path] = ()) -> None:
    """Store what the run has read, unless it was stored when the run began.

    Args:
        format: that the device's files are of, as its settings name it.
        plugins: the user's own files that measure on the device.
    """
    from pipeline.user_code import code_of

    if store.get(CODE) is None:
        own = {str(path): digest for path in plugins if (digest := _sha256(path)) is not None}
        read = {**code_of(_user_code(config, format)), **own, **_model_file(config.model)}
        store.set(CODE, {path: digest for path, digest in read.items() if path != _trainer_file(config)})
    if store.get(WEIGHTS_FILE) is None and config.weights is not None and store.get(BASE_WEIGHTS) is None:
        path = config.weights.absolute()
        digests = {str(path): _sha256(path)}
        store.set(WEIGHTS_FILE, digests)


def _trainer_file(config: RunConfig) -> str:
    """Return the file of the user's trainer, which may be fixed while the run is: it has trained nothing before."""
    place = (config.fine_tuning.trainer or "").rpartition(":")[0]
    return str(home_expanded(place).resolve()) if is_file(place) else ""


def _model_file(model: str | None) -> dict[str, str]:
    """Return the SHA-256 of a model's file by its path: the network is read from it whenever the run goes on."""
    if model is None or not is_model_file(model):
        return {}
    path = home_expanded(model).absolute()
    digest = _sha256(path)
    return {} if digest is None else {str(path): digest}


def _user_code(config: RunConfig, format: str) -> Iterator[str]:
    """Yield the import paths of the user's own code: ``file.py:NAME`` or ``package.module:NAME``."""
    kind, _, place = config.data.partition(":")
    for name in (config.strategy, config.criterion, kind, format):
        if is_file(name):
            yield f"{name}:"
    for spec in (config.model or "", place if kind == "dataset" else ""):
        if ":" in spec and not is_model_file(spec):
            yield spec
    if ":" in config.task or is_file(config.task):
        yield f"{config.task}:" if is_file(config.task) else config.task


def require_same_origin(store: Store) -> None:
    """Refuse to go on with a run whose code has changed, or whose weights have, where they would be read again.

    Raises:
        UserError: says which file, what it was and is, and how to go on.
    """
    read_again = {} if store.get(BASE_WEIGHTS) is not None else store.get(WEIGHTS_FILE) or {}
    code = store.get(CODE)
    known = {**(code or {}), **read_again}
    changed = {path: now for path, digest in known.items() if (now := _sha256(Path(path))) != digest}
    if not changed:
        return
    path, now = next(iter(changed.items()))
    what = "is gone" if now is None else f"has changed: its SHA-256 was {str(known[path])[:12]}…, and is {now[:12]}…"
    more = f", and {len(changed) - 1} more have changed" if len(changed) > 1 else ""
    raise UserError(
        f"run {store.id} began with another {path}, which {what}{more}; put it back as it was, or start a new run "
        "with what is there now: pipeline run"
    )


def _sha256(path: Path) -> str | None:
    """Return a file's SHA-256; None where it cannot be read."""
    try:
        with opened(path, WEIGHTS_BYTES) as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return None
