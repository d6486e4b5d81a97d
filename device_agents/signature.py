"""A bundle's signature, checked on the board by openssl, which nearly every Linux has, with a key that is trusted here.

``model.sig`` is what OpenSSF's model signing writes with a key of one's own: a Sigstore bundle, which is JSON, with a
DSSE envelope. The signature is ECDSA with SHA-256 over ``DSSEv1 SP length SP type SP length SP payload``, the payload
an in-toto statement that lists the SHA-256 of every file (github.com/secure-systems-lab/dsse, protocol.md;
github.com/sigstore/model-transparency).
"""

import base64
import json
import subprocess
import tempfile
from typing import Any, Dict

_TYPE = "application/vnd.in-toto+json"
_STATEMENT = "https://in-toto.io/Statement/v1"
_PREDICATE = "https://model_signing/signature/v1.0"
_MOST_BYTES = 1 << 20
_LONGEST_S = 60


def checked_by_openssl(program: str, signature: str, key: str, files: Dict[str, str]) -> None:
    """Raise ValueError unless a signature is by a key, a PEM file, and lists these files and no others.

    Args:
        files: name → sha256.
    """
    try:
        with open(signature, "rb") as file:
            envelope = json.loads(file.read(_MOST_BYTES).decode("utf-8"))["dsseEnvelope"]
        payload = base64.b64decode(envelope["payload"], validate=True)
        (signed,) = envelope["signatures"]
        _verify(program, key, base64.b64decode(signed["sig"], validate=True), payload)
        if envelope["payloadType"] != _TYPE:
            raise ValueError("its payload is of type %.100r" % envelope["payloadType"])
        listed = _listed(json.loads(payload.decode("utf-8")))
    except (OSError, KeyError, TypeError, AttributeError, RecursionError, subprocess.SubprocessError) as error:
        raise ValueError("%s: %.200s" % (type(error).__name__, error))
    for name in sorted(set(listed) | set(files)):
        if listed.get(name) != files.get(name):
            raise ValueError("it does not list %s as it is" % name)


def _verify(program: str, key: str, signature: bytes, payload: bytes) -> None:
    signed = b"DSSEv1 %d %s %d %s" % (len(_TYPE), _TYPE.encode("ascii"), len(payload), payload)
    with tempfile.NamedTemporaryFile() as file:
        file.write(signature)
        file.flush()
        done = subprocess.run(
            [program, "dgst", "-sha256", "-verify", key, "-signature", file.name],
            input=signed,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_LONGEST_S,
        )
    if done.returncode != 0:
        raise ValueError("it is not by the trusted key")


def _listed(statement: Dict[str, Any]) -> Dict[str, str]:
    """Return the files that a statement lists."""
    if statement["_type"] != _STATEMENT or statement["predicateType"] != _PREDICATE:
        raise ValueError("it states something else")
    resources = statement["predicate"]["resources"]
    if not all(one["algorithm"] == "sha256" for one in resources):
        raise ValueError("it lists other checksums than SHA-256")
    return {str(one["name"]): str(one["digest"]) for one in resources}
