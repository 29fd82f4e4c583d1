"""Pools: limits of tasks and workers in time, number and memory, and the number of workers."""
import os

import pytest
from pool_tasks import LONG, fork, own_pid, square, until, wait_for

import mpfast
import mpfast.pool

pytestmark = pytest.mark.skipif(not hasattr(mpfast.pool.Pool, "_supervisor"), reason="no native pool here")


def test_the_timeout_of_a_task(pool):
    event = mpfast.Event()
    late = pool.apply_async(wait_for, (event,), timeout=0.1)
    with pytest.raises(mpfast.TimeoutError):
        late.get(LONG)
    assert pool.apply_async(square, (3,), timeout=LONG).get(LONG) == 9
    assert pool.apply(square, (3,), timeout=LONG) == 9


def test_the_timeout_of_the_tasks_of_a_map(forked):
    event = fork.Event()
    with pytest.raises(mpfast.TimeoutError):
        forked.map(_wait_at_two, [(i, event) for i in range(4)], chunksize=1, task_timeout=0.1)
    # Long enough for the others, however busy the machine is.
    iterator = forked.imap(_wait_at_two, [(i, event) for i in range(4)], task_timeout=5)
    assert [next(iterator), next(iterator)] == [0, 1]
    with pytest.raises(mpfast.TimeoutError):
        next(iterator)
    assert list(iterator) == [3]
    assert forked.map(square, range(4), task_timeout=LONG) == [0, 1, 4, 9]


def _wait_at_two(item):
    number, event = item
    if number == 2:
        event.wait()
    return number


def test_maxtasksperchild(pool):
    with mpfast.get_context(pool._ctx._name).Pool(2, maxtasksperchild=3) as short_lived:
        pids = [short_lived.apply(own_pid) for _ in range(12)]
        assert max(pids.count(pid) for pid in pids) <= 3
        assert short_lived.map(square, range(20), chunksize=1) == [x * x for x in range(20)]


def _hold(megabytes, kept=[]):
    kept.append(b"x" * (megabytes << 20))
    return os.getpid()


def _resident():
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def test_max_memory_per_child():
    with fork.Pool(1) as pool:
        resident = pool.apply(_resident)
    with fork.Pool(1, max_memory_per_child=resident + (200 << 20)) as pool:
        first = pool.apply(_hold, (1,))
        assert pool.apply(_hold, (1,)) == first
        assert pool.apply(_hold, (400,)) == first
        assert pool.apply(_hold, (1,)) != first


def test_resize(forked):
    forked.resize(4)
    assert len(forked._pool) == forked._processes == 4
    assert len(set(forked.map(_own_pid_with_others, [fork.Barrier(4)] * 4, chunksize=1))) == 4
    forked.resize(1)
    until(lambda: len(forked._pool) == 1)
    assert forked.map(square, range(10)) == [x * x for x in range(10)]


@pytest.mark.parametrize("processes, error", [(0, ValueError), (65, ValueError), (1.5, TypeError), (None, TypeError)])
def test_a_size_that_cannot_be_had_changes_nothing(forked, processes, error):
    with pytest.raises(error):
        forked.resize(processes)
    assert len(forked._pool) == forked._processes == 2
    assert forked.map(square, range(10)) == [x * x for x in range(10)]


def _own_pid_with_others(barrier):
    barrier.wait(LONG)
    return os.getpid()
