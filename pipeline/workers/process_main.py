"""Worker process: computes one task after another, and ends when the line to its parent is closed."""

from __future__ import annotations

import logging
import os
import queue
import sys
import threading
from multiprocessing.connection import Connection
from typing import Any

from pipeline.workers.messages import HEARD, STOP, Answer, Call, carried_out, dumps, loads

_Calls = queue.SimpleQueue[tuple[Call, bytes | None]]


def main(descriptor: int) -> None:
    """Serve the line at ``descriptor``."""
    line: Connection[bytes, bytes] = Connection(descriptor)
    sending = threading.Lock()

    def send(message: bytes) -> None:
        with sending:
            line.send_bytes(message)

    logging.lastResort = None  # lines are sent, and shown there
    answer, calls = Answer(send), _Calls()
    threading.Thread(target=_read, args=(line, calls, answer), daemon=True).start()
    keep: dict[str, Any] = {}
    while True:
        call, shared = calls.get()
        send(dumps(carried_out(call, shared, keep, answer)))


def _read(line: Connection, calls: _Calls, answer: Answer) -> None:
    """Take in calls; whatever is computed, the process ends with its parent."""
    while True:
        try:
            message = loads(line.recv_bytes())
        except (EOFError, OSError):
            os._exit(0)
        if message == STOP:
            answer.stop()
        elif message == HEARD:
            answer.heard()
        else:
            answer.begin()
            calls.put(message)


if __name__ == "__main__":
    main(int(sys.argv[1]))
