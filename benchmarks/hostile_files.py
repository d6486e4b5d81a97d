"""Is each kind of file that users bring, when damaged, refused in a sentence, within 5 s and 500 MB?

Valid files are damaged at random (bits, ends, parts, values of other types, huge numbers, deep nesting) and read as the
program reads them. Each kind is tried in a process of its own; one that ends it is a fault, too.
"""

from __future__ import annotations

import argparse
import collections
import json
import multiprocessing
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the kinds of files are the tests'

from tests.hostile_files.kinds import KINDS
from tests.hostile_files.trying import tried


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=10_000, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--faults", type=int, default=5, help="so many different ones of each kind are printed")
    parser.add_argument("--keep", type=Path, help="a folder for the files that were not refused as they should be")
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=", ".join(KINDS))
    asked = parser.parse_args()
    print(f"{'kind':<12} {'files':>7} {'refused':>8} {'tracebacks':>10} {'> 5 s':>6} {'> 500 MB':>8} {'ended':>6}"
          f" {'slowest':>8} {'largest':>9}")  # fmt: skip
    for name in asked.kinds or KINDS:
        _print(name, _in_a_process(name, asked.examples, asked.seed), asked)


def _in_a_process(name: str, examples: int, seed: int) -> dict[str, Any]:
    """Return what came of a kind; that it ended its process, where it did."""
    with tempfile.TemporaryDirectory() as folder:
        report, last = Path(folder, "report"), Path(folder, "last")
        process = multiprocessing.get_context("spawn").Process(target=_work, args=(name, examples, seed, report, last))
        process.start()
        process.join()
        if report.exists():
            found: dict[str, Any] = json.loads(report.read_text())
            return found
        faults = [{"what": "ended", "detail": f"exit code {process.exitcode}", "content": last.read_bytes().hex()}]
        return {"files": 0, "refused": 0, "slowest_s": 0, "largest_mb": 0, "faults": faults}


def _work(name: str, examples: int, seed: int, report: Path, last: Path) -> None:
    def keep(content: bytes) -> None:
        last.write_bytes(content)

    found = tried(KINDS[name], examples, number=seed, on_file=keep)
    faults = [{"what": f.what, "detail": f.detail, "content": f.content.hex()} for f in found.faults]
    report.write_text(json.dumps({**asdict(found), "faults": faults}))


def _print(name: str, found: dict, asked: argparse.Namespace) -> None:  # type: ignore[type-arg]
    count = collections.Counter(fault["what"] for fault in found["faults"])
    print(f"{name:<12} {found['files']:>7} {found['refused']:>8} {count['traceback']:>10} {count['slow']:>6} "
          f"{count['large']:>8} {count['ended']:>6} {found['slowest_s']:>6.2f} s {found['largest_mb']:>6.0f} MB",
          flush=True)  # fmt: skip
    details = collections.Counter(f"{fault['what']}: {fault['detail']}" for fault in found["faults"])
    for detail, times in details.most_common(asked.faults):
        print(f"    {times} × {detail}", flush=True)
    if asked.keep:
        asked.keep.mkdir(parents=True, exist_ok=True)
        for number, fault in enumerate(found["faults"]):
            (asked.keep / f"{name}-{number}-{KINDS[name].name}").write_bytes(bytes.fromhex(fault["content"]))


if __name__ == "__main__":
    main()
