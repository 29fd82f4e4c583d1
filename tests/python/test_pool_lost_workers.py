"""Pools: what becomes of tasks and workers when workers die, and of workers when the parent does."""
import os
import pickle
import signal

import pytest
from conftest import METHODS
from pool_tasks import LONG, fork, kill_self, set_and_wait, square, until

import mpfast
import mpfast.pool

pytestmark = pytest.mark.skipif(not hasattr(mpfast.pool.Pool, "_supervisor"), reason="no native pool here")


def leave(status):
    os._exit(status)


def test_a_killed_worker_costs_its_task_alone(pool):
    started, release = mpfast.Event(), mpfast.Event()
    held = pool.apply_async(set_and_wait, (started, release))
    assert started.wait(LONG)
    lost = pool.apply_async(kill_self)
    others = [pool.apply_async(square, (i,)) for i in range(100)]
    with pytest.raises(mpfast.WorkerLostError) as caught:
        lost.get(LONG)
    assert caught.value.signal == "SIGKILL" and caught.value.exitcode == -signal.SIGKILL
    assert caught.value.pid not in (os.getpid(), None)
    assert "kill_self" in caught.value.task and "kill_self" in str(caught.value)
    assert [other.get(LONG) for other in others] == [i * i for i in range(100)]
    release.set()
    held.get(LONG)
    until(lambda: len(pool._pool) == 2)  # the one that took its place may work before it is listed


def test_what_a_lost_worker_is_known_by(forked):
    with pytest.raises(mpfast.WorkerLostError) as caught:
        forked.apply_async(leave, (3,)).get(LONG)
    assert (caught.value.exitcode, caught.value.signal) == (3, None)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (copy.pid, copy.exitcode, copy.task, str(copy)) == (caught.value.pid, 3, caught.value.task, str(caught.value))
    with pytest.raises(mpfast.WorkerLostError):
        forked.map(leave, [0, 0, 0], chunksize=1)
    assert forked.map(square, range(4)) == [0, 1, 4, 9]


def test_an_error_callback_hears_of_a_lost_worker(forked):
    errors = []
    result = forked.apply_async(kill_self, error_callback=errors.append)
    with pytest.raises(mpfast.WorkerLostError):
        result.get(LONG)
    assert [type(error) for error in errors] == [mpfast.WorkerLostError]


def test_a_lost_piece_of_a_lazy_map(forked):
    iterator = forked.imap(_kill_at_five, range(10))
    assert [next(iterator) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(mpfast.WorkerLostError):
        next(iterator)
    assert list(iterator) == [6, 7, 8, 9]


def _kill_at_five(x):
    if x == 5:
        kill_self()
    return x


def test_idle_workers_that_are_killed_are_replaced(pool):
    pool.map(square, range(4))
    before = {process.pid for process in pool._pool}
    for process in list(pool._pool):
        os.kill(process.pid, signal.SIGKILL)
    until(lambda: len(pool._pool) == 2 and not before & {process.pid for process in pool._pool})
    assert pool.map(square, range(4)) == [0, 1, 4, 9]


def test_a_worker_lost_after_close(forked):
    started, release = fork.Event(), fork.Event()
    held = forked.apply_async(set_and_wait, (started, release))
    assert started.wait(LONG)
    rest = [forked.apply_async(kill_self) for _ in range(3)] + [forked.apply_async(square, (5,))]
    forked.close()
    release.set()
    forked.join()
    held.get(0)
    assert rest[3].get(0) == 25
    for result in rest[:3]:
        with pytest.raises(mpfast.WorkerLostError):
            result.get(0)


STACKS = """
import ctypes, sys
import mpfast
def crash_here():
    ctypes.string_at(0)
if __name__ == "__main__":
    with mpfast.get_context(sys.argv[1]).Pool(1) as pool:
        try:
            pool.apply_async(crash_here).get(60)
        except mpfast.WorkerLostError as error:
            print(error.signal, "in crash_here" in error.stacks)
"""


@pytest.mark.parametrize("method", METHODS)
def test_stacks_of_a_crash(python, tmp_path, method):
    (tmp_path / "crash.py").write_text(STACKS)
    done = python("crash.py", method)
    assert (done.stdout, done.stderr) == ("SIGSEGV True\n", "")


CRASH_LOOP = """
import os, sys
import mpfast
def initialize():
    os._exit(7)
if __name__ == "__main__":
    with mpfast.get_context(sys.argv[1]).Pool(2, initialize) as pool:
        early = pool.map_async(abs, range(3), chunksize=1)
        for result in (early, None):
            result = result or pool.apply_async(abs, (1,))
            try:
                result.get(60)
            except mpfast.WorkerLostError as error:
                print(error.exitcode)
"""


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_workers_that_never_start_end_in_an_error(python, tmp_path, method):
    (tmp_path / "crash_loop.py").write_text(CRASH_LOOP)
    done = python("crash_loop.py", method)
    assert (done.stdout, done.stderr) == ("7\n7\n", "")


ORPHANS = """
import os, sys, time
import mpfast
def sleep(seconds):
    time.sleep(seconds)
if __name__ == "__main__":
    pool = mpfast.get_context(sys.argv[1]).Pool(3)
    pool.map(abs, range(3), chunksize=1)
    pool.apply_async(time.sleep, (3600,))
    while not any(pool._crew.worker(slot)[1] == "busy" for slot in range(3)):
        time.sleep(0.001)
    print(*[process.pid for process in pool._pool], flush=True)
    os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("method", METHODS)
def test_workers_do_not_outlive_the_parent(python, tmp_path, method):
    (tmp_path / "orphans.py").write_text(ORPHANS)
    done = python("orphans.py", method)
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) == 3 and done.stderr == ""
    until(lambda: not any(_runs(pid) for pid in pids))


def _runs(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
