"""A user of every primitive is killed between two steps of the layers below (debug build only)."""
import pathlib
import pickle
import re
import signal
import threading
import time
import warnings

import pytest

import mpfast
from .crew import KILLS, LONG, figures

pytestmark = pytest.mark.skipif(not mpfast._core.DEBUG, reason="fault points are in the debug build only")

SOURCE = pathlib.Path(__file__).resolve().parents[2] / "src"
POINTS = sorted({point for layer in ("sync", "memory") for path in (SOURCE / layer).glob("*.c")
                 for point in re.findall(r'MPF_FAULT(?:_ERROR)?\("([^"]+)"\)', path.read_text())})

NTH = (1, 2, 3, 5, 7, 20) if KILLS >= 1000 else (1, 7)

ctx = mpfast.get_context("spawn")


def use(lock, rlock, semaphore, bounded, condition, event, barrier):
    """Use everything once; nothing waits for long."""
    for x in (lock, rlock, bounded):
        if x.acquire(timeout=0.05):
            time.sleep(0)
            x.release()
    semaphore.release()
    semaphore.acquire(timeout=0.01)
    with condition:
        condition.notify()
        condition.wait(0.002)
    event.set()
    event.clear()
    event.wait(0.001)
    try:
        barrier.wait(0.001)
    except threading.BrokenBarrierError:
        barrier.reset()
    pickle.loads(pickle.dumps(mpfast.Lock()))


def use_often(primitives):
    warnings.simplefilter("ignore", mpfast.OwnerDiedWarning)
    for _ in range(20):
        use(*primitives)
    threading.Thread(target=use, args=primitives).start()


@pytest.mark.parametrize("point", POINTS)
def test_killed_at(point, no_leak, monkeypatch):
    for nth in NTH:
        primitives = [ctx.Lock(), ctx.RLock(), ctx.Semaphore(0), ctx.BoundedSemaphore(1), ctx.Condition(),
                      ctx.Event(), ctx.Barrier(2)]
        child = ctx.Process(target=use_often, args=(primitives,))
        monkeypatch.setenv("MPFAST_FAULT", f"{point}:{nth}:kill")
        child.start()
        monkeypatch.delenv("MPFAST_FAULT")
        deadline = time.monotonic() + LONG
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", mpfast.OwnerDiedWarning)
            while child.is_alive():
                assert time.monotonic() < deadline
                use(*primitives)
            assert child.exitcode in (0, -signal.SIGKILL)
            figures()
            still_works(*primitives)
        del primitives, child


def still_works(lock, rlock, semaphore, bounded, condition, event, barrier):
    for x in (lock, rlock, bounded):
        assert x.acquire(timeout=LONG)
        x.release()
    assert bounded.get_value() == 1
    semaphore.release()
    assert semaphore.acquire(timeout=LONG)
    with condition:
        assert condition.wait(0.001) is False
    assert repr(condition) == "<Condition(<RLock(None, 0)>, 0)>"
    event.set()
    assert event.wait(LONG)
    barrier.reset()
    waiter = threading.Thread(target=barrier.wait, args=(LONG,))
    waiter.start()
    barrier.wait(LONG)
    waiter.join()
    assert not barrier.broken
