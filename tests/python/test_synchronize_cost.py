"""What primitives must not cost: system calls, descriptors, names, collectable cycles."""
import gc
import os
import weakref

import pytest

import mpfast
from mpfast import _native

pytestmark = pytest.mark.skipif(not _native.ENABLED, reason="the native part is not there")

MAKERS = (mpfast.Lock, mpfast.RLock, mpfast.Semaphore, mpfast.BoundedSemaphore, mpfast.Condition, mpfast.Event,
          lambda: mpfast.Barrier(2))


def descriptors():
    return set(os.listdir("/proc/self/fd"))


def named_mappings():
    with open("/proc/self/maps") as maps:
        return [line for line in maps if "/dev/shm/" in line]


def test_no_descriptors_and_no_names():
    keep = [make() for make in MAKERS]
    open_before, named_before = descriptors(), named_mappings()
    keep += [make() for make in MAKERS for _ in range(1000)]
    assert descriptors() <= open_before
    assert named_mappings() == named_before


def test_dropped_blocks_come_back():
    gc.collect()
    before = mpfast._core.stats()["blocks"]
    primitives = [make() for make in MAKERS for _ in range(100)]
    assert mpfast._core.stats()["blocks"] != before
    del primitives
    gc.collect()
    assert mpfast._core.stats()["blocks"] == before


def test_a_cycle_through_a_primitive_is_collected():
    class Owner:
        pass

    for make in (lambda owner: mpfast.Barrier(1, lambda: owner), lambda owner: mpfast.Lock()):
        owner = Owner()
        owner.primitive = make(owner)
        owner.primitive.owner = owner
        alive = weakref.ref(owner)
        del owner
        gc.collect()
        assert alive() is None


SYSTEM_CALLS = """
import mpfast
lock, rlock, semaphore, bounded = mpfast.Lock(), mpfast.RLock(), mpfast.Semaphore(3), mpfast.BoundedSemaphore(3)
condition, event, barrier = mpfast.Condition(), mpfast.Event(), mpfast.Barrier(1)

def use():
    for x in lock, rlock, semaphore, bounded, condition:
        with x:
            pass
        x.acquire(timeout=5)
        x.release()
    with condition:
        condition.notify_all()
    event.set(); event.wait(); event.clear(); event.wait(0)
    barrier.wait()
    mpfast.Lock(), mpfast.RLock(), mpfast.Semaphore(), mpfast.BoundedSemaphore(), mpfast.Condition(), mpfast.Event()
    mpfast.Barrier(2)

for _ in range(100):
    use()  # the interpreter gets the memory for its own objects now
with marked:
    for _ in range(100):
        use()
"""


def test_no_system_calls(system_calls):
    assert system_calls(SYSTEM_CALLS) == []
