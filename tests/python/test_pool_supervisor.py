"""Pools: the thread that looks after one, when there is one and what it sees to."""
import os
import threading

import pytest
from conftest import sleeps
from pool_tasks import LONG, fork, set_and_wait, square, until

import mpfast
import mpfast.pool
from mpfast import _crew

pytestmark = pytest.mark.skipif(not hasattr(mpfast.pool.Pool, "_supervisor"), reason="no native pool here")


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="nothing is known of threads here")
def test_an_idle_pool_sleeps(pool):
    assert pool.map(square, range(100)) == [x * x for x in range(100)]
    heard = threading.Event()
    pool.apply_async(square, (1,), callback=lambda value: heard.set())
    assert heard.wait(LONG)
    until(lambda: sleeps(pool._pool, pool._supervisor._thread))


def test_a_pool_that_only_waits_has_no_thread_of_threading(code):
    assert code("""
import os
import threading
import mpfast

with mpfast.get_context("fork").Pool(2) as pool:
    assert pool.map(abs, range(100)) == list(range(100))
    assert pool.apply(abs, (-3,)) == 3
    print(threading.enumerate() == [threading.main_thread()], len(os.listdir("/proc/self/task")))
""") == "True 2\n"


def test_no_thread_can_be_started(monkeypatch):
    calls = []

    def start(thread):
        raise RuntimeError("can't create new thread at interpreter shutdown")
    with fork.Pool(2) as pool:
        monkeypatch.setattr(threading.Thread, "start", start)
        assert pool.apply_async(square, (3,), callback=calls.append).get(LONG) == 9
        until(lambda: calls == [9])
        killed = pool._pool[0]
        killed.kill()
        until(lambda: killed not in pool._pool and len(pool._pool) == 2)
        assert pool.map(square, range(4)) == [0, 1, 4, 9]
        pool.close()
        pool.join()
        monkeypatch.undo()


def test_used_by_a_thread_that_outlives_the_main_one(code):
    assert code("""
import threading
import mpfast
pool = mpfast.get_context("fork").Pool(2)
main = threading.current_thread()

def use():
    main.join()
    told = threading.Event()
    print(pool.apply_async(abs, (-3,), callback=lambda value: told.set()).get(60), told.wait(60))
    pool.terminate()

threading.Thread(target=use).start()
""") == "3 True\n"


def test_a_process_that_is_forked_while_a_pool_gets_its_thread_knows_of_its_own_alone(code):
    assert code("""
import os
import threading
import time
import mpfast

def have_the_pool_get_its_thread():
    pool.apply_async(abs, (-3,), callback=values.append)
    while threading.active_count() == 1:
        time.sleep(0.001)

values = []
fork = mpfast.get_context("fork")
pool = fork.Pool(1)
queue = fork.SimpleQueue()
os.register_at_fork(before=have_the_pool_get_its_thread)
process = fork.Process(target=lambda: queue.put([thread.name for thread in threading.enumerate()]))
process.start()
names = queue.get()
process.join()
pool.close()
pool.join()
print(values, names)
""") == "[3] ['MainThread']\n"


def test_one_that_is_started_when_another_cannot_be_is_looked_after(monkeypatch):
    def fork_one_only():
        if forks:
            return forks.pop()()
        raise BlockingIOError("no more processes")

    with fork.Pool(1) as pool:
        forks = [os.fork]
        monkeypatch.setattr(os, "fork", fork_one_only)
        with pytest.raises(BlockingIOError, match="no more"):
            pool.resize(3)
        monkeypatch.undo()
        first, second = pool._pool
        second.kill()
        until(lambda: second not in pool._pool and len(pool._pool) == 3)
        assert pool.map(square, range(4)) == [0, 1, 4, 9]


def test_a_pool_that_is_collected_where_its_thread_is_started_does_not_wait_for_that(monkeypatch):
    pools = [fork.Pool(1)]
    supervisor = pools[0]._supervisor
    over = threading.Event()

    def collect(_):
        pools.clear()
        over.set()
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_crew, "FINALIZER_PATIENCE", 10 * LONG)
    monkeypatch.setattr(threading.Thread, "start", collect)
    supervisor.wake()
    assert over.wait(LONG)
    monkeypatch.undo()
    supervisor.join()


def test_a_pool_that_is_collected_while_its_thread_sees_to_a_dead_worker_leaves_none(monkeypatch):
    pools = [fork.Pool(2)]
    supervisor = pools[0]._supervisor
    workers = list(supervisor.workers)

    def collect(_):
        pools.clear()
        return ""

    monkeypatch.setattr(_crew.Stacks, "read", collect)
    workers[0].kill()
    supervisor._over.wait(LONG)
    assert [worker.is_alive() for worker in workers] == [False] * 2


def test_a_supervising_thread_that_fails_takes_the_pool_with_it(forked, monkeypatch):
    def fail_to_replace():
        raise RuntimeError("this cannot be")

    reported = []
    monkeypatch.setattr(threading, "excepthook", lambda what: reported.append(what.exc_type))
    workers = list(forked._pool)
    started = fork.Event()
    result = forked.apply_async(set_and_wait, (started, fork.Event()))
    assert started.wait(LONG)
    monkeypatch.setattr(forked._supervisor, "_replace", fail_to_replace)
    forked._supervisor.wake()
    with pytest.raises(RuntimeError, match="this cannot be"):
        result.get(LONG)
    for worker in workers:
        worker.join(LONG)
        assert worker.exitcode is not None
    forked.close()
    forked.join()
    assert reported == [RuntimeError]


class TerminatingCrew:
    """A crew that a signal comes to while it is asked for a worker, with a handler that terminates the pool."""

    def __init__(self, pool, crew):
        self._pool = pool
        self._crew = crew

    def __getattr__(self, name):
        return getattr(self._crew, name)

    def worker(self, slot):
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.terminate()
        return self._crew.worker(slot)


def test_a_pool_is_terminated_while_it_is_terminated():
    pool = mpfast.get_context("fork").Pool(3)
    processes = list(pool._pool)
    pool._supervisor.crew = TerminatingCrew(pool, pool._supervisor.crew)
    pool._supervisor.terminate()
    pool.join()
    assert not any(process.is_alive() for process in processes)


INTERRUPTED_LATCH = """
import sys
import threading
from mpfast._crew_wakeups import Latch

def call(after):
    left = after

    def trace(frame, event, argument):
        nonlocal left
        if frame.f_code not in codes and frame.f_code.co_filename != threading.__file__:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            left -= 1
            if left == 0:
                sys.settrace(None)
                latch.open()
                latch.wait()
                return None
        return trace

    latch = Latch()
    sys._getframe().f_trace_opcodes = True  # 3.12 looks for it here
    sys.settrace(trace)
    try:
        latch.wait(0.01)
        latch.open()
        latch.wait()
    finally:
        sys.settrace(None)
    return left > 0

codes = {Latch.open.__code__, Latch.wait.__code__}
after = 1
while not call(after):
    after += 1
print(after > 20)
"""


def test_a_handler_opens_a_latch_wherever_it_comes(code):
    assert code(INTERRUPTED_LATCH) == "True\n"


class Mapper:
    """A mapper of the program's that cannot be hashed."""

    def __eq__(self, other):
        return self is other

    def __call__(self, arguments):
        func, items = arguments
        return [func(item) for item in items]


def test_a_mapper_that_cannot_be_hashed():
    with mpfast.get_context("fork").Pool(1) as pool:
        assert pool._map_async(abs, [-1, -2], Mapper()).get(LONG) == [1, 2]
