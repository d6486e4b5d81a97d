"""What a hostile board does to the host over real SSH: memory, seconds and the error's sentence, an attack a line.

    python benchmarks/hostile_board.py [--deadline 5]

Each attack of ``tests/hostile_board.py`` runs behind an OpenSSH server of its own on loopback, as what every login runs
or in the agent's place: floods, drips, silence, foreign ids, huge numbers, nests, escape sequences. ``--deadline`` is
that of the first look and of each exchange; in use it is 60 s.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path

from _common.peak_memory import peak_mb, reset_peak_mb
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the boards are the tests'

from pipeline.devices import agent_client
from pipeline.devices.sessions import ssh
from pipeline.errors import PipelineError
from tests.conftest import Sshd
from tests.hostile_answers import steers
from tests.hostile_board import ATTACKS, Attack


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--deadline", type=float, default=5.0, metavar="SECONDS")
    parser.add_argument("--only", default="", metavar="WORDS", help="of the attacks, those whose name holds this")
    args = parser.parse_args()
    ssh._PROBE_S = ssh._SFTP_S = agent_client.QUICK_S = args.deadline
    ssh._SLOWEST_BYTES_A_SECOND = 1_000_000
    ssh._SFTP_SERVERS = ("/nowhere/sftp-server",)  # else it is run by hand, and the board is as good as any
    table = Table("attack", "MB", "seconds", "what the host says", box=None)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PIPELINE_LOCK_DIR"] = folder
        met(ATTACKS[0], Path(folder) / "imports")  # they take seconds and memory, once
        for number, attack in enumerate(attack for attack in ATTACKS if args.only in attack.words):
            mb, seconds, said = met(attack, Path(folder) / str(number))
            table.add_row(attack.words, f"{mb:.0f}", f"{seconds:.1f}", said)
    Console(width=160, markup=False, emoji=False).print(table)


def met(attack: Attack, folder: Path) -> tuple[float, float, str]:
    """Meet a board that attacks; return by how many MB the host grew, how long it took, and what it says."""
    folder.mkdir()
    sshd = Sshd(folder / "sshd", attack.lines(folder)).start()
    before_mb, start = reset_peak_mb(), time.monotonic()
    try:
        attack.meet(sshd.device(address=sshd.address(retries=0))).close()
        said = "nothing: the board is believed"
    except PipelineError as error:
        said = f"{type(error).__name__}: {str(error)[:240]}"
    except Exception as error:  # what the benchmark is about
        frame = traceback.extract_tb(error.__traceback__)[-1]
        said = f"TRACEBACK {type(error).__name__} in {Path(frame.filename).name}:{frame.name}"
    finally:
        seconds, mb = time.monotonic() - start, peak_mb() - before_mb
        sshd.stop()
    return mb, seconds, f"NOT ESCAPED {said!r}" if steers(said) else said


if __name__ == "__main__":
    main()
