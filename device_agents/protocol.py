"""The wire: one JSON object a line, versioned. The only file of the agent that the host imports.

Request   {"v": 2, "id": 7, "verb": "measure", ...arguments}
Event     {"v": 2, "id": 7, "event": "progress", ...data}            any number, before the reply
Reply     {"v": 2, "id": 7, "ok": true, "result": {...}}
      or  {"v": 2, "id": 7, "ok": false, "error": {"kind": "crashed", "message": "..."}}

Verbs
hello      -> facts of the board (the fields of the host's ``DeviceFacts``)
telemetry  -> {"temperature_c", "clock_mhz", "governor", "load", "cpu_busy_s", "cpu_steal_s", "memory_free_mb",
           "disk_free_mb", "throttled"}, null if unknown; see ``telemetry.py``
hold       owner: "user@host"; session: a random word, the same in each new session of one caller; wait_s, ttl_s;
           modes: {"governor": name, "nvpmodel": number, "jetson_clocks": true}
        -> {"applied": {mode: value}, "refused": {mode: why}}: this agent alone measures on the board, and the modes are
           set, until ``release``, the end of the line, or ttl_s without a request; see ``holding.py``
           events while it waits: {"event": "waiting", "holder": {"owner", "pid", "age_s", "expires_s", "words"}}
release    -> {"restored": {mode: value}}
meter      power; seconds of each phase; threads that load the board in the second
        -> the sensor's own behaviour at rest and under load: see ``meter.py``; without a sensor, see ``strain.py``
measure    candidate: "<sha256>.onnx", "<sha256>.tflite" or "<sha256>.skeleton" in the agent's ``files`` folder;
           reference: the same or null;
           runtime, options (the runtime's own), threads, affinity: [core, ...] or null, spinning: true, false or null,
           warmup_s, min_s, max_s, block_s, ci_rel, idle_s, timeout_s, build_timeout_s, seed,
           memory_share: of the board's memory, that the runtime's process may hold,
           reject_above: a share of the reference's latency past which nobody wants the candidate, or null,
           settle_below_c: wait until the board is so cool, or null; settle_s: but not longer,
           power: {"backend": name, "options": {...}}
        -> raw samples, no statistics: see ``measure.py``
verify     candidate, inputs: "<sha256>.npy" (float32, first axis = images), runtime, options, threads, affinity,
           spinning, timeout_s, build_timeout_s, memory_share
        -> {"outputs": base64 of little-endian float32, "shape": [images, values]}; of several inputs or outputs each
           image's values lie one after the other

Verbs of deployed bundles; dir: their folder on the board, see ``deployment.py``
deployment tidy: remove first what deploys that were cut have left
        -> {"folder", "current" and "previous": {"name", "title", "version", "bytes", "deployed", "by", "checked"}
           or null,
           "problem": what of the one that runs is damaged, or null, "trusted": [PEM, ...], "contents": [sha256, ...] of
           files that need not be sent, "free_bytes", "verifier": whether signatures can be checked there}
trust      pem: a public key; forget: true to trust it no longer -> {"trusted": [PEM, ...]}
stage      version: the manifest's sha256; contents: {name: sha256}, each here already or sent as "<sha256>.bin"
        -> {"name", "signature": "valid", "unsigned" or "unchecked", "key"}
self_test  staged: that name; runtime, timeout_s
        -> {"file", "inputs", "difference", "tolerance", "ok", "seconds"}
offer      -> {"file": the model that runs now, copied to the agent's ``files`` folder, or null}
switch     name: that name, or null for the version before; owner, deployed: who and when; vouched: the host has
           checked the signature -> {"current", "previous"}

Python 3.6, standard library.
"""

import json

VERSION = 2
MAX_LINE_BYTES = 64 * 1024 * 1024

# Kinds of error. The first four concern one candidate, the rest the device or the caller.
CRASHED = "crashed"  # the runtime's process died
TIMEOUT = "timeout"  # it did not end in time and was killed
REFUSED = "refused"  # the runtime would not load or run the file
INVALID = "invalid"  # outputs not finite, sensor without samples
CORRUPT = "corrupt"  # a file is missing or its content is not its name: send it again
DISK_FULL = "disk_full"
BAD_REQUEST = "bad_request"
HELD = "held"  # somebody else measures on this board
INTERNAL = "internal"

CANDIDATE_KINDS = (CRASHED, TIMEOUT, REFUSED, INVALID)


class ProtocolError(Exception):
    """A line that is no message of this protocol."""


def encode(message):
    # type: (dict) -> bytes
    """Return ``message`` as one line; not-a-number is refused, since JSON has no word for it."""
    line = json.dumps(dict(message, v=VERSION), separators=(",", ":"), allow_nan=False)
    return line.encode("utf-8") + b"\n"


def decode(line):
    # type: (bytes) -> dict
    """Return the message in ``line``; raise ProtocolError when it is none, or of another version."""
    try:
        message = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        raise ProtocolError("not a message: %r" % line[:200])
    if not isinstance(message, dict) or "v" not in message:
        raise ProtocolError("not a message: %r" % line[:200])
    if message["v"] != VERSION:
        raise ProtocolError("version %r, expected %d" % (message["v"], VERSION))
    return message
