"""Signatures of bundles: OpenSSF's model signing with an elliptic-curve key of one's own, offline.

The signature, ``model.sig``, is a Sigstore bundle: a DSSE envelope around an in-toto statement that lists the SHA-256
of every other file. `model_signing verify key` of the PyPI package model-signing checks it as this program does.

Keys lie in the user's own data folder, outside of any project: NAME.pem, mode 0600, and NAME.pub to hand out.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from deploy import runtime
from deploy.folder import explained
from deploy.sealing import reseal
from pipeline.errors import BundleError, UserError, first_line, nearest
from pipeline.regular_file import SETTINGS_BYTES, is_there, read_bytes

DEFAULT = "default"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_MOST_SIGNATURE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key, as it is shown, compared and handed out."""

    pem: bytes
    """SubjectPublicKeyInfo."""
    name: str = ""
    """Of its file; empty: it came from elsewhere."""

    @property
    def id(self) -> str:
        """SHA-256 of the PEM, by which a signature names its key."""
        return hashlib.sha256(self.pem).hexdigest()

    @property
    def shown(self) -> str:
        """How a message names it."""
        return f"{self.name} ({self.id[:16]})" if self.name else self.id[:16]


def folder() -> Path:
    """Return where the user's keys lie."""
    return platformdirs.user_data_path("pipeline") / "keys"


def new_key(name: str = DEFAULT) -> PublicKey:
    """Make a key pair on the curve P-256.

    Raises:
        UserError: the name cannot be one, or there is such a key.
        OutputError: it cannot be written.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    private = _private_file(name)
    if private.exists():
        raise UserError(f"there is a key {name!r} in {private.parent}; choose another name: pipeline keys new NAME")
    key = ec.generate_private_key(ec.SECP256R1())
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with explained(private, "key"):
        private.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        private.parent.chmod(0o700)
        _write(private.with_suffix(".pub"), _spki(key.public_key()), 0o644)
        _write(private, secret, 0o600)
    return public_key(name)


def own_keys() -> list[PublicKey]:
    """Return the user's own public keys."""
    if not folder().is_dir():
        return []
    return [_read_public(file, file.stem) for file in sorted(folder().glob("*.pub"))]


def public_key(wanted: str) -> PublicKey:
    """Return a public key by the name of one's own, or by the path of its file.

    Raises:
        UserError: there is none.
    """
    own = folder() / f"{wanted}.pub" if _NAME.fullmatch(wanted) else None
    if own is not None and is_there(own):
        return _read_public(own, wanted)
    if not is_there(Path(wanted)):
        known = [key.name for key in own_keys()]
        raise UserError(
            f"there is no key {wanted!r}{nearest(wanted, known)}; known: {', '.join(known) or 'none'}; name the .pub "
            "file of somebody else's, or make one: pipeline keys new"
        )
    return _read_public(Path(wanted), "")


def sign(bundle: Path, name: str = DEFAULT) -> PublicKey:
    """Sign a bundle whose files are as they were written; a signature of before is replaced.

    Raises:
        BundleError: the bundle is not as it was written.
        UserError: there is no such key, or others may read it.
    """
    from model_signing import hashing, signing

    private, public = _private_file(name), public_key(name)
    if not is_there(private):
        raise UserError(f"the private key of {name!r} is not here ({private}); sign where it is")
    if private.stat().st_mode & 0o077:
        raise UserError(f"others may read the private key {private}; chmod 600 it, or better make a new one")
    with explained(bundle, "bundle"):
        reseal(bundle, {"file": runtime.SIGNATURE, "key": public.id})
        config = hashing.Config().set_ignored_paths(paths=[runtime.SIGNATURE], ignore_git_paths=False)
        with tempfile.TemporaryDirectory() as aside:
            part = Path(aside) / runtime.SIGNATURE
            signer = signing.Config().use_elliptic_key_signer(private_key=private)
            signer.set_hashing_config(config).sign(bundle, part)
            _write(bundle / runtime.SIGNATURE, part.read_bytes(), runtime.MODES)
    return public


def check_signature(bundle: Path, signed_by: str, known: Sequence[PublicKey]) -> PublicKey | None:
    """Return the key that signed a bundle; None: it is none of those known, so that nothing was checked.

    Args:
        signed_by: the key's id, as the manifest says.

    Raises:
        BundleError: the signature is not that key's, or of other files.
    """
    key = next((key for key in known if key.id == signed_by), None)
    if key is None:
        return None
    from model_signing import hashing, verifying

    logging.getLogger("model_signing").setLevel(logging.WARNING)
    file = bundle / runtime.SIGNATURE
    try:
        _require_canonical(read_bytes(file, _MOST_SIGNATURE_BYTES))
        with tempfile.NamedTemporaryFile(suffix=".pub") as public:
            public.write(key.pem)
            public.flush()
            config = hashing.Config().set_ignored_paths(paths=[runtime.SIGNATURE], ignore_git_paths=False)
            verifier = verifying.Config().use_elliptic_key_verifier(public_key=public.name)
            verifier.set_hashing_config(config).verify(bundle, file)
    except Exception as error:  # what a library makes of a stranger's file
        raise BundleError(
            f"{bundle}: {runtime.SIGNATURE} is not the signature of these files by {key.shown}: {first_line(error)}"
        ) from error
    return key


def _require_canonical(content: bytes) -> None:
    """Raise ValueError where a signature could have been written otherwise: base64 has bits that nobody reads."""
    from sigstore_models.bundle.v1 import Bundle

    if Bundle.from_json(content).to_json().encode() != content:
        raise ValueError("it is not written as it is read")


def _read_public(file: Path, name: str) -> PublicKey:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        key = serialization.load_pem_public_key(read_bytes(file, SETTINGS_BYTES))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{file} is no public key: {first_line(error)}; give the .pub file of `pipeline keys new`"
        ) from (error)
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
        raise UserError(f"{file} is no key on the curve P-256; give the .pub file of `pipeline keys new`")
    return PublicKey(_spki(key), name)


def _spki(key: object) -> bytes:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    assert isinstance(key, ec.EllipticCurvePublicKey)
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _private_file(name: str) -> Path:
    if not _NAME.fullmatch(name):
        raise UserError(f"{name!r} cannot be a key's name; take letters, digits, '.', '_' and '-'")
    return folder() / f"{name}.pem"


def _write(path: Path, content: bytes, mode: int) -> None:
    """Write a file whole, with its mode from the first byte on."""
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=".part-")
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(part).replace(path)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise
