"""Lock and RLock when their users are killed or stopped."""
import os
import signal
import threading
import time
import warnings

import pytest

import mpfast
from .crew import LONG, Words, ctx

MAKERS = pytest.mark.parametrize("make", [ctx.Lock, ctx.RLock], ids=["Lock", "RLock"])


def hold_for_ever(lock, held):
    lock.acquire()
    held.set()
    signal.pause()


@pytest.fixture
def held_by_another():
    """Function (lock) that has a child take it; the child, which holds it until it is killed."""
    children = []

    def start(lock):
        held = ctx.Event()
        child = ctx.Process(target=hold_for_ever, args=(lock, held))
        child.start()
        children.append(child)
        assert held.wait(LONG)
        return child

    yield start
    for child in children:
        child.kill()
        child.join(LONG)


@MAKERS
def test_lock_of_a_killed_owner_is_handed_on(make, held_by_another):
    lock = make()
    child = held_by_another(lock)
    assert lock.acquire(False) is False
    child.kill()
    with pytest.warns(mpfast.OwnerDiedWarning, match="Lock was killed"):
        assert lock.acquire(timeout=LONG) is True
    lock.release()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with lock:
            pass


@MAKERS
def test_a_sleeping_waiter_gets_it(make, held_by_another):
    lock = make()
    child = held_by_another(lock)
    killer = threading.Thread(target=lambda: [time.sleep(0.3), child.kill()])
    killer.start()
    with pytest.warns(mpfast.OwnerDiedWarning):
        started = time.monotonic()
        assert lock.acquire(timeout=LONG)
        assert time.monotonic() - started < LONG
    killer.join()


@MAKERS
def test_strict_raises_once_and_leaves_it_free(make, held_by_another):
    lock = make()
    held_by_another(lock).kill()
    assert mpfast.set_strict(True) is False
    try:
        with pytest.raises(mpfast.OwnerDied, match="Lock was killed"):
            lock.acquire()
        assert lock.acquire(timeout=LONG) is True
        lock.release()
    finally:
        assert mpfast.set_strict(False) is True


def test_a_warning_made_an_error_leaves_it_free(held_by_another):
    lock = ctx.Lock()
    held_by_another(lock).kill()
    with warnings.catch_warnings():
        warnings.simplefilter("error", mpfast.OwnerDiedWarning)
        with pytest.raises(mpfast.OwnerDiedWarning):
            with lock:
                pytest.fail("entered")
        with lock:
            pass


def expect_strict(lock, strict):
    from mpfast import _core
    assert _core.get_strict() is strict


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("strict", [True, False])
def test_strictness_is_inherited(method, strict):
    context = mpfast.get_context(method)
    mpfast.set_strict(strict)
    try:
        child = context.Process(target=expect_strict, args=(context.Lock(), strict))
        child.start()
        child.join(LONG)
        assert child.exitcode == 0
    finally:
        mpfast.set_strict(False)


@MAKERS
def test_a_stopped_owner_is_not_dead(make, held_by_another):
    lock = make()
    child = held_by_another(lock)
    os.kill(child.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
    assert lock.acquire(timeout=0.3) is False
    os.kill(child.pid, signal.SIGCONT)


def test_condition_gives_the_lock_of_a_killed_owner_with_a_warning():
    condition, waiting = ctx.Condition(), ctx.Event()

    def take_and_pause():
        assert waiting.wait(LONG)
        with condition:
            condition.notify()
            os.kill(os.getpid(), signal.SIGKILL)

    child = ctx.Process(target=take_and_pause)
    child.start()
    with pytest.warns(mpfast.OwnerDiedWarning):
        with condition:
            waiting.set()
            assert condition.wait(LONG)
    child.join(LONG)


@MAKERS
def test_kills(make, crew):
    lock, owner = make(), Words(1)

    def work(me):
        with lock:
            owner[0] = me
            for _ in range(3):
                assert owner[0] == me

    team = crew(work)
    team.kill_many()
    team.finish()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mpfast.OwnerDiedWarning)
        assert lock.acquire(timeout=LONG)
    lock.release()
