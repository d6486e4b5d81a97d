"""The lease of a run: who holds it writes, a host that dies loses it, one that was held up writes nothing more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.errors import RunInUseError, StoreError
from pipeline.store import Store, runs_root
from pipeline.store.shared.url import SharedUrl
from tests.command_line import eventually
from tests.examples import measurement, trial

pytestmark = pytest.mark.slow
LEASE_S = 2.0


@pytest.fixture
def brief(new_url: Callable[..., str]) -> SharedUrl:
    """A database whose leases are brief."""
    root = runs_root(new_url(more=f"&lease={LEASE_S:.0f}s"))
    assert isinstance(root, SharedUrl)
    return root


@contextmanager
def other_host(root: SharedUrl, body: str) -> Iterator[subprocess.Popen[str]]:
    """A real process that begins a run, says its name, and goes on as ``body`` says."""
    url = (
        root.database.replace("+psycopg", "") + ("&" if "?" in root.database else "?") + f"blobs={root.blobs}&lease=2s"
    )
    script = f"""
import os, signal, sys, time
from pipeline.errors import StoreError
from pipeline.store import Store, runs_root
from tests.examples import measurement, trial
store = Store.create(runs_root({url!r}), label="other")
print(store.id, flush=True)
{textwrap.dedent(body)}
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[4],
        env={**os.environ, "XDG_CACHE_HOME": f"{root.blobs}-of-the-other"},
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def taken_over(root: SharedUrl, run: str) -> Store:
    """Open a run to write as soon as nobody holds it."""
    found: list[Store] = []

    def take() -> bool:
        try:
            found.append(Store.open(root, run, write=True))
        except RunInUseError:
            return False
        return True

    assert eventually(take, 3 * LEASE_S)
    return found[0]


def test_of_a_host_that_is_killed_all_that_it_was_told_is_kept_and_another_goes_on(brief: SharedUrl) -> None:
    body = """
        for index in range(100000):
            store.remember(str(index), measurement())
            store.append(trial(index))
            print(index, flush=True)
    """
    with other_host(brief, body) as other:
        run = line_of(other)
        acknowledged = [int(line_of(other)) for _ in range(20)]
        with pytest.raises(RunInUseError, match=rf"by process {other.pid} of host .*its lease runs out in [012] s"):
            Store.open(brief, run, write=True)
        other.kill()
        rest, _ = other.communicate()
        acknowledged += [int(word) for word in rest.split("\n")[:-1]]
        with taken_over(brief, run) as store:
            assert store.status == "running"
            indices = [one.index for one in store.trials()]
            assert indices[: len(acknowledged)] == acknowledged
            assert len(indices) - len(acknowledged) in (0, 1)
            assert all(store.recall(str(index)) == measurement() for index in acknowledged)
            store.append(trial(len(indices)))


@pytest.mark.parametrize("new_url", ["postgresql"], indirect=True)
def test_a_host_that_was_held_up_for_longer_than_its_lease_writes_nothing_more(brief: SharedUrl) -> None:
    body = """
        store.append(trial(0))
        print("stored", flush=True)
        for index in range(1, 10**9):
            try:
                store.append(trial(index))
            except StoreError as error:
                print(error, flush=True)
                break
            time.sleep(0.2)
        try:
            store.checkpoint("base").write(b"stale")
        except StoreError as error:
            print(error, flush=True)
        (store.path / "report.html").write_text("stale")
        store.close()
        print("closed", flush=True)
    """
    with other_host(brief, body) as other:
        run = line_of(other)
        assert line_of(other) == "stored"
        other.send_signal(signal.SIGSTOP)
        with taken_over(brief, run) as store:
            store.append(trial(1000))
            store.checkpoint("base").write(b"ours")
            before = [one.index for one in store.trials()]
            other.send_signal(signal.SIGCONT)
            for _ in range(2):
                assert f"run {run} was taken over by process" in line_of(other)
            assert line_of(other) == "closed"
            assert [one.index for one in store.trials()] == before
            assert store.checkpoint("base").read() == b"ours"
            assert "report.html" not in {path.name for path in store.path.iterdir()}


@pytest.mark.parametrize("new_url", ["postgresql"], indirect=True)
def test_a_host_that_is_held_up_in_the_middle_of_a_write_keeps_nobody_from_its_run(brief: SharedUrl) -> None:
    body = """
        def stop(connection):
            store._run.records._lease.hold(connection)
            print("in the middle", flush=True)
            os.kill(os.getpid(), signal.SIGSTOP)

        try:
            store._run._link.transact(stop)
        except StoreError as error:
            print(error, flush=True)
    """
    with other_host(brief, body) as other:
        run = line_of(other)
        assert line_of(other) == "in the middle"
        with taken_over(brief, run) as store:
            store.append(trial(0))
            other.send_signal(signal.SIGCONT)
            assert f"run {run} was taken over by process" in line_of(other)
            assert len(store.trials()) == 1


@pytest.mark.parametrize("new_url", ["postgresql"], indirect=True)
def test_a_lease_is_renewed_while_nothing_is_stored(brief: SharedUrl) -> None:
    with Store.create(brief, label="slow") as store:
        time.sleep(1.5 * LEASE_S)
        assert store.status == "running"
        with pytest.raises(RunInUseError):
            Store.open(brief, store.id, write=True)


@pytest.mark.parametrize("new_url", ["postgresql"], indirect=True)
def test_a_lease_that_ran_out_is_ours_again_where_nobody_took_it(brief: SharedUrl) -> None:
    with other_host(
        brief, "time.sleep(0.5)\nfor index in range(40): store.append(trial(index)); time.sleep(0.1)"
    ) as other:
        run = line_of(other)
        other.send_signal(signal.SIGSTOP)
        with Store.open(brief, run) as reader:
            assert eventually(lambda: reader.status == "interrupted", 3 * LEASE_S)
            other.send_signal(signal.SIGCONT)
            assert eventually(lambda: reader.status == "running" and len(reader.trials()) > 2)


@pytest.mark.parametrize("new_url", ["sqlite"], indirect=True)
def test_a_run_that_was_taken_over_and_ended_there_stays_so(brief: SharedUrl) -> None:
    with Store.create(brief, label="ours") as store:
        store._run._lease._ended.set()  # the thread ends: as if this process were held up
        with taken_over(brief, store.id) as other:
            other.finish()
        with pytest.raises(StoreError, match=r"was taken over by a process that has ended"):
            store.append(trial(0))
    assert Store.list(brief)[0].status == "finished"
