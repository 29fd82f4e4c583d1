"""Pools in other processes than their own: handles that make calls."""
import os
import pickle
import signal
import threading

import pytest
from pool_tasks import LONG, add, fail, fork, kill_self, own_pid, set_and_wait, square, unencodable, wait_for

import mpfast
import mpfast.pool

pytestmark = pytest.mark.skipif(not hasattr(mpfast.pool.Pool, "_supervisor"), reason="no native pool here")


def _call_back(pool, x):
    return pool.apply(square, (x,)), pool.map(square, range(x)), list(pool.imap(add, [x])), pool.starmap(add, [(x, 1)])


def _errors_of(pool):
    found = []
    for result in (pool.apply_async(fail, (1,)), pool.apply_async(kill_self), pool.apply_async(square, (threading.Lock(),)),
                   pool.apply_async(unencodable)):
        try:
            result.get(LONG)
        except Exception as error:
            found.append(type(error).__name__)
    return found


def test_a_pool_as_an_argument(pool):
    assert pool.apply_async(_call_back, (pool, 3)).get(LONG) == (9, [0, 1, 4], [3], [4])
    assert pool.apply_async(_errors_of, (pool,)).get(LONG) == [
        "KeyError", "WorkerLostError", "TypeError", "MaybeEncodingError"]


def test_a_pool_in_another_process(forked):
    answer = fork.Queue()
    child = mpfast.get_context("spawn").Process(target=_use_handle, args=(forked, answer))
    child.start()
    assert answer.get(timeout=LONG) == (9, [0, 1, 4], [3], [4])
    forked.terminate()
    assert answer.get(timeout=LONG) in ("ProcessError", "ValueError")
    child.join(LONG)
    with pytest.raises(NotImplementedError, match="pool objects cannot be passed between processes or pickled"):
        pickle.dumps(forked)


def _use_handle(pool, answer):
    event = mpfast.Event()
    answer.put(_call_back(pool, 3))
    try:
        pool.apply_async(wait_for, (event,)).get(LONG)
    except (mpfast.ProcessError, ValueError) as error:
        answer.put(type(error).__name__)


def _call_and_die(pool, queue):
    pool.apply_async(_put, (queue, 7))
    os.kill(os.getpid(), signal.SIGKILL)


def _put(queue, item):
    queue.put(item)


def test_a_caller_through_a_handle_that_dies(forked):
    hold, held = threading.Event(), threading.Event()
    forked.apply_async(own_pid, callback=lambda value: held.set() or hold.wait(LONG))
    assert held.wait(LONG)  # the thread that serves handles is busy: it sees the call when the caller is gone
    queue = fork.Queue()
    caller = fork.Process(target=_call_and_die, args=(pickle.loads(pickle.dumps(forked)), queue))
    caller.start()
    caller.join(LONG)
    assert caller.exitcode == -signal.SIGKILL
    hold.set()
    assert queue.get(timeout=LONG) == 7
    assert forked.apply(square, (3,)) == 9


def _own_a_pool(answer):
    with fork.Pool(1) as pool:
        answer.put(pool)
        wait_for(fork.Event())


def test_the_process_of_a_handles_pool_is_killed():
    answer = fork.Queue()
    owner = fork.Process(target=_own_a_pool, args=(answer,))
    owner.start()
    started = fork.Event()
    result = answer.get(timeout=LONG).apply_async(set_and_wait, (started, fork.Event()))
    assert started.wait(LONG)
    os.kill(owner.pid, signal.SIGKILL)  # it stays a zombie for now
    with pytest.raises(mpfast.WorkerLostError):
        result.get(LONG)
    owner.join()


def test_one_desk_for_all_handles(forked, monkeypatch):
    from mpfast import _pool_handle
    both = threading.Barrier(2)
    original = _pool_handle.Desk.__init__

    def slowly(desk, supervisor):
        try:
            both.wait(0.2)  # two threads here are two desks, of which one is never looked at
        except threading.BrokenBarrierError:
            pass
        original(desk, supervisor)

    monkeypatch.setattr(_pool_handle.Desk, "__init__", slowly)
    handles = []
    threads = [threading.Thread(target=lambda: handles.append(pickle.loads(pickle.dumps(forked)))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [handle.apply_async(square, (3,)).get(LONG) for handle in handles] == [9, 9]
