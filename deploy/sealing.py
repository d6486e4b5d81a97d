"""A bundle's last two files: the manifest, and the checksums of all others as ``sha256sum -c`` reads them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploy import runtime
from deploy.folder import MANIFEST, listed
from pipeline import serialization
from pipeline.errors import BundleError

_OWN = (MANIFEST, runtime.CHECKSUMS, runtime.SIGNATURE)


def seal(folder: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Write manifest.json and SHA256SUMS for what lies in a folder; return the manifest.

    The same files and facts give the same bytes: no clock, no names of this machine.

    Args:
        facts: what the manifest says beside ``files`` and ``checksums``.
    """
    files = {name: entry for name, entry in listed(folder).items() if name not in _OWN}
    manifest = {"schema": facts["schema"], "files": files, "checksums": runtime.CHECKSUMS, **facts}
    text = serialization.to_text(manifest, indent=2)
    (folder / MANIFEST).write_text(f"{text}\n", encoding="utf-8")
    (folder / runtime.CHECKSUMS).write_text(runtime.checksums(folder, [*files, MANIFEST]), encoding="utf-8")
    for path in folder.iterdir():
        path.chmod(runtime.MODES)  # under any umask, so that others cannot change what runs
    return manifest


def reseal(folder: Path, signature: Mapping[str, str]) -> None:
    """Let a bundle's manifest name the key that it is about to be signed with; a signature of before is removed.

    Raises:
        BundleError: the bundle is not as it was written, or of a version whose manifest has no checksums.
    """
    try:
        manifest = runtime.verified(folder)
    except runtime.BundleError as error:
        raise BundleError(f"{error}; pull it again") from error
    if "checksums" not in manifest:
        raise BundleError(f"{folder} was written by an older version, which signed nothing; pull it again")
    (folder / runtime.SIGNATURE).unlink(missing_ok=True)
    seal(folder, {**{key: value for key, value in manifest.items() if key != "files"}, "signature": dict(signature)})
