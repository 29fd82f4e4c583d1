"""Shared values and arrays when a process that uses them is killed."""
import ctypes
import gc
import os
import random
import signal
import threading
import time
import warnings

import pytest

import mpfast
from mpfast import _native

pytestmark = [pytest.mark.skipif(not _native.ENABLED, reason="the native part is not there"),
              pytest.mark.filterwarnings("error::mpfast.OwnerDiedWarning")]

LONG = 30  # seconds; nothing waits that long unless it is broken
CTX = mpfast.get_context("fork")


class Point(ctypes.Structure):
    _fields_ = [("x", ctypes.c_int)]


def blocks():
    from mpfast import _core
    gc.collect()
    return _core.stats()["blocks"]


def kill(process):
    os.kill(process.pid, signal.SIGKILL)
    process.join(LONG)
    assert process.exitcode == -signal.SIGKILL


def killed_with_the_lock(shared, act=None):
    """A process takes the lock of shared, does act(), and is killed."""
    held = CTX.Event()

    def hold():
        shared.acquire()
        if act is not None:
            act()
        held.set()
        time.sleep(LONG)

    process = CTX.Process(target=hold)
    process.start()
    assert held.wait(LONG)
    kill(process)


@pytest.fixture
def strict():
    former = mpfast.set_strict(True)
    yield
    mpfast.set_strict(former)


USES = {
    "value": (lambda: mpfast.Value("i", 5), lambda v: v.value, 5),
    "set": (lambda: mpfast.Value("i", 5), lambda v: setattr(v, "value", 6), None),
    "add": (lambda: mpfast.Value("i", 5), lambda v: v.add(2), 5),
    "compare_exchange": (lambda: mpfast.Value("i", 5), lambda v: v.compare_exchange(5, 2), 5),
    "item": (lambda: mpfast.Array("i", [1, 2]), lambda a: a[1], 2),
    "slice": (lambda: mpfast.Array("d", [1, 2]), lambda a: a[:], [1.0, 2.0]),
    "set item": (lambda: mpfast.Array("d", [1, 2]), lambda a: a.__setitem__(0, 1), None),
    "set slice": (lambda: mpfast.Array("d", [1, 2]), lambda a: a.__setitem__(slice(1), [1]), None),
    "iterate": (lambda: mpfast.Array("i", [1, 2]), lambda a: next(iter(a)), 1),
    "string": (lambda: mpfast.Array("c", b"abc"), lambda a: a.value, b"abc"),
    "raw": (lambda: mpfast.Array("c", b"abc"), lambda a: a.raw, b"abc"),
    "structure": (lambda: mpfast.Value(Point, 5), lambda p: p.x, 5),
    "with": (lambda: mpfast.Value("i", 5), lambda v: v.__enter__() and v.__exit__(None, None, None), None),
    "lock": (lambda: mpfast.Value("i", 5), lambda v: v.get_lock().acquire() and v.get_lock().release(), None),
    "a given lock": (lambda: mpfast.Value("i", 5, lock=mpfast.Lock()), lambda v: v.value, 5),
}


@pytest.mark.parametrize("make, use, expected", USES.values(), ids=USES)
def test_the_next_user_is_warned_once(make, use, expected):
    shared = make()
    killed_with_the_lock(shared)
    with pytest.warns(mpfast.OwnerDiedWarning):
        assert use(shared) == expected
    use(shared)


@pytest.mark.parametrize("make, use, expected", USES.values(), ids=USES)
def test_in_strict_mode_the_next_user_gets_an_exception_once(strict, make, use, expected):
    shared = make()
    killed_with_the_lock(shared)
    with pytest.raises(mpfast.OwnerDied):
        use(shared)
    assert use(shared) == expected


def test_a_warning_that_is_an_error_leaves_the_lock_free():
    value = mpfast.Value("i", 5)
    killed_with_the_lock(value)
    with pytest.raises(mpfast.OwnerDiedWarning):
        value.value = 7
    assert value.value == 5
    thread = threading.Thread(target=setattr, args=(value, "value", 8))
    thread.start()
    thread.join(LONG)
    assert value.value == 8


@pytest.mark.parametrize("count", [1, 4])
def test_waiters_get_the_lock_of_a_killed_process(count):
    value, held = CTX.Value("i", 1), CTX.Event()

    def hold():
        with value.get_lock():
            held.set()
            time.sleep(LONG)

    def wait():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value.add(10)

    holder = CTX.Process(target=hold)
    holder.start()
    assert held.wait(LONG)
    waiters = [CTX.Process(target=wait) for _ in range(count)]
    for waiter in waiters:
        waiter.start()
    waiters[0].join(0.1)
    assert waiters[0].is_alive()
    kill(holder)
    for waiter in waiters:
        waiter.join(LONG)
        assert waiter.exitcode == 0
    assert value.value == 1 + 10 * count


def test_a_process_that_ends_in_order_leaves_the_lock_held():
    value = CTX.Value("i")
    process = CTX.Process(target=value.acquire)
    process.start()
    process.join(LONG)
    assert process.exitcode == 0
    assert value.acquire(timeout=0.1) is False


def test_memory_of_a_killed_process_comes_back():
    made = CTX.Event()
    kept = mpfast.Value("i", 4)

    def make():
        from mpfast import _core
        values = [(mpfast.Value("i"), mpfast.Array("d", 3000), mpfast.RawArray("h", 5)) for _ in range(50)]
        objects = [(value.get_lock(), value.get_obj(), kept.get_lock()) for value, *_ in values]
        assert len(objects) == 50 and _core.stats()["blocks"]["raw"] >= 50
        made.set()
        time.sleep(LONG)

    before = blocks()
    process = CTX.Process(target=make)
    process.start()
    assert made.wait(LONG)
    assert blocks() != before
    kill(process)
    assert blocks() == before
    assert kept.value == 4


def test_kills_at_random_moments():
    counter, pair = CTX.Value("q"), CTX.Array("q", 2)
    rng = random.Random(5)

    def work():
        warnings.simplefilter("ignore")
        while True:
            counter.add(1)
            pair[:] = [counter.value] * 2
            with pair:
                pair[0] += 1
                pair[1] += 1

    before = blocks()
    workers = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(40):
            while len(workers) < 3:
                workers.append(CTX.Process(target=work))
                workers[-1].start()
            seen = counter.value
            time.sleep(rng.random() * 0.01)
            kill(workers.pop(rng.randrange(3)))
            assert counter.value >= seen
            assert len(pair[:]) == 2
        for worker in workers:
            kill(worker)
        reached = counter.value
        pair[:] = [reached, reached]
        assert counter.value == reached and pair[:] == [reached, reached]
    assert blocks() == before
