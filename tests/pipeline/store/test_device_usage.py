from __future__ import annotations

import threading

import pytest

from pipeline.store.device_usage import Usage, Watch, spent


def test_the_host_counts_only_where_nothing_is_measured_meanwhile() -> None:
    found = spent([("build", 0, 4), ("measure", 4, 10), ("build", 5, 12), ("measure", 12, 15)], until=16, shared=False)
    assert (found.measuring_s, found.building_s, found.asking_s, found.rest_s) == (9, 6, 0, 1)
    assert found.idle_s == 7


def test_on_one_shared_processor_the_hosts_own_work_is_no_idle_time() -> None:
    spans = [("ask", 0, 1), ("build", 1, 3), ("measure", 3, 8)]
    alone, shared = (spent(spans, until=9, shared=value) for value in (False, True))  # type: ignore[arg-type]
    assert (alone.idle_s, shared.idle_s) == (4, 1)
    assert alone.measuring_s == shared.measuring_s == 5


def test_the_parts_of_a_resumed_run_add_up() -> None:
    one = Usage(wall_s=10, measuring_s=6, asking_s=1, building_s=2, rest_s=1, shared=True)
    assert one + one == Usage(wall_s=20, measuring_s=12, asking_s=2, building_s=4, rest_s=2, shared=True)
    assert "0.0 %" in str(Usage(wall_s=0, measuring_s=0, asking_s=0, building_s=0, rest_s=0, shared=False))


def test_a_watch_hears_of_both_threads() -> None:
    watch, begun, built = Watch(), threading.Event(), threading.Event()

    def measure() -> None:
        with watch.doing("measure"):
            begun.set()
            assert built.wait(10)

    device = threading.Thread(target=measure)
    device.start()
    assert begun.wait(10)
    with watch.doing("build"):
        pass
    built.set()
    device.join()
    found = watch.usage(shared=False)
    assert found is not None
    assert found.building_s == 0
    assert found.measuring_s + found.rest_s == pytest.approx(found.wall_s)


def test_where_nothing_was_done_there_is_nothing_to_tell() -> None:
    assert Watch().usage(shared=True) is None
