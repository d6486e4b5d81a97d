"""Verification of a bundle: kinds, modes and sizes, checksums, schema, signature, parity, in this order.

Nothing is read before its size is known, nothing runs before all files are what the manifest says.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from deploy import parity, runtime
from deploy.schema import Manifest
from deploy.signing import PublicKey, check_signature, own_keys, public_key
from pipeline import serialization
from pipeline.errors import BundleError
from pipeline.regular_file import exists, read_text

State = Literal["valid", "unknown key", "unsigned"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """A bundle whose files are what was written."""

    folder: str
    name: str
    """Run and artifact, or the folder's own name."""
    sha256: str
    """Of the manifest, and so of all: a bundle's identity."""
    files: int
    size_bytes: int
    signature: State
    """valid: by a key that is known; unknown key: nobody here can tell; unsigned."""
    key: str | None
    """Id of the key that the manifest names."""
    key_name: str | None
    """How the user calls that key, where it is the user's own."""
    parity: dict[str, Any] | None = field(default=None)
    """Differences by file and pair; None: not looked at, see ``parity_skipped``."""
    parity_skipped: str | None = None


def verify_bundle(
    folder: Path, *, trusted: Sequence[PublicKey] | None = None, run: bool = True
) -> tuple[Verified, dict[str, Any]]:
    """Return what is known of a bundle, and its manifest.

    Args:
        trusted: keys of which one has to have signed it; None: a signature by one of the user's own keys is checked,
            and no signature is required.
        run: also run its model files on the stored inputs.

    Raises:
        BundleError: a file is not as it was written, or the signature is not what it has to be; names it.
    """
    if not exists(folder):
        raise BundleError(f"there is no {folder}; give the folder that `pipeline pull` wrote")
    folder = folder.resolve()
    try:
        runtime.verified(folder)
        manifest = serialization.from_text(read_text(folder / runtime.MANIFEST, runtime.MOST_MANIFEST_BYTES))
        Manifest.model_validate(manifest)
    except runtime.BundleError as error:
        raise BundleError(f"{error}; pull it again") from error
    except (OSError, ValidationError, ValueError) as error:
        said = serialization.problem(error) if isinstance(error, ValueError) else str(error)
        raise BundleError(f"{folder}: manifest.json does not fit its schema: {said}; pull it again") from error
    state, key = _signature(folder, manifest, trusted)
    skipped = _why_not_run(manifest, run)
    found = Verified(
        folder=str(folder),
        name=str(manifest.get("name") or folder.name),
        sha256=runtime.file_sha256(folder / runtime.MANIFEST),
        files=len(manifest["files"]),
        size_bytes=sum(entry["bytes"] for entry in manifest["files"].values()),
        signature=state,
        key=(manifest.get("signature") or {}).get("key"),
        key_name=key.name or None if key else None,
        parity=None if skipped else parity.check_parity(folder),
        parity_skipped=skipped,
    )
    return found, manifest


def verify_by_names(folder: Path, names: Iterable[str] | None) -> Verified:
    """Return the same; ``names`` are of one's own keys, or files of public ones, of which one has to have signed it."""
    return verify_bundle(folder, trusted=None if names is None else [public_key(name) for name in names])[0]


def _signature(
    folder: Path, manifest: dict[str, Any], trusted: Sequence[PublicKey] | None
) -> tuple[State, PublicKey | None]:
    said = manifest.get("signature")
    if said is None:
        if trusted is not None:
            raise BundleError(
                f"{folder} is unsigned, and has to be signed by {_any_of(trusted)}; sign it: pipeline sign {folder}"
            )
        return "unsigned", None
    key = check_signature(folder, said["key"], own_keys() if trusted is None else trusted)
    if key is None and trusted is not None:
        raise BundleError(
            f"{folder}: {runtime.SIGNATURE} is by the key {said['key'][:16]}, and has to be by {_any_of(trusted)}"
        )
    return ("unknown key" if key is None else "valid"), key


def _any_of(trusted: Sequence[PublicKey]) -> str:
    return " or ".join(key.shown for key in trusted) or "a key that is trusted, of which there is none"


def _why_not_run(manifest: dict[str, Any], run: bool) -> str | None:
    if not run:
        return "not asked for"
    if manifest.get("test_vectors") is None:
        return "the bundle holds no stored inputs and answers"
    format = str(manifest["model"]["format"])
    return None if format in parity.OPENED else f"{format} is a format of one's own, whose code is not run here"
