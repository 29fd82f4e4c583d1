"""Locks, conditions, events and barriers that a local manager makes.

Their methods take the arguments of :mod:`threading`'s and raise its exceptions: that is what a manager's server has.
"""
import multiprocessing.managers as _stdlib
import threading

from . import _core
from ._core import call_until
from ._managed import Waiting, managed


def _taking(take):
    """The methods acquire and __enter__, by way of *take*, the native acquire()."""
    def acquire(self, blocking=True, timeout=None):
        if timeout is not None:
            return self._acquire_within(blocking, timeout)
        if blocking is not True:
            return call_until(self._ends, take, self, blocking)
        return take(self, False) or call_until(self._ends, take, self)

    def __enter__(self):
        return take(self, False) or call_until(self._ends, take, self)

    return acquire, __enter__


def _giving(give, refusal, error, text):
    """The method release, by way of *give*, the native release(), whose *refusal* becomes an *error* with that text."""
    def release(self):
        try:
            give(self)
        except refusal:
            raise error(text) from None

    return release


class _Lock(Waiting):
    _exposed_ = _stdlib.AcquirerProxy._exposed_
    _inside = ("__enter__", "__exit__")

    def _make(self, manager, *args):
        self._native.__init__(self, *args, ctx=manager._ctx)

    def __exit__(self, *exc_info):
        self.release()

    def _acquire_within(self, blocking, timeout):
        threading.Lock().acquire(blocking, timeout)  # complains where the arguments make no sense
        return call_until(self._ends, self._native.acquire, self, True, None if timeout == -1 else timeout)


@managed("Lock", _stdlib.AcquirerProxy)
class _ArenaLock(_Lock, _core.Lock, _stdlib.AcquirerProxy):
    _native = _core.Lock
    acquire, __enter__ = _taking(_core.Lock.acquire)
    release = _giving(_core.Lock.release, ValueError, RuntimeError, "release unlocked lock")

    def locked(self):
        return self._is_zero()


@managed("RLock", _stdlib.AcquirerProxy)
class _ArenaRLock(_Lock, _core.RLock, _stdlib.AcquirerProxy):
    _native = _core.RLock
    acquire, __enter__ = _taking(_core.RLock.acquire)
    release = _giving(_core.RLock.release, AssertionError, RuntimeError, "cannot release un-acquired lock")

    def locked(self):
        return self._is_zero()


class _Semaphore(_Lock):

    def _make(self, manager, value=1):
        if value < 0:
            raise ValueError("semaphore initial value must be >= 0")
        super()._make(manager, value)

    def _acquire_within(self, blocking, timeout):
        if not blocking:
            raise ValueError("can't specify timeout for non-blocking acquire")
        return call_until(self._ends, self._native.acquire, self, True, timeout)


@managed("Semaphore", _stdlib.AcquirerProxy)
class _ArenaSemaphore(_Semaphore, _core.Semaphore, _stdlib.AcquirerProxy):
    _native = _core.Semaphore
    acquire, __enter__ = _taking(_core.Semaphore.acquire)

    def release(self, *, _release=_core.Semaphore.release):
        _release(self)


@managed("BoundedSemaphore", _stdlib.AcquirerProxy)
class _ArenaBoundedSemaphore(_Semaphore, _core.BoundedSemaphore, _stdlib.AcquirerProxy):
    _native = _core.BoundedSemaphore
    acquire, __enter__ = _taking(_core.BoundedSemaphore.acquire)
    release = _giving(_core.BoundedSemaphore.release, ValueError, ValueError, "Semaphore released too many times")


@managed("Condition", _stdlib.ConditionProxy)
class _ArenaCondition(_Lock, _core.Condition, _stdlib.ConditionProxy):
    _native = _core.Condition
    _exposed_ = _stdlib.ConditionProxy._exposed_

    def _make(self, manager, lock=None):
        if lock is not None:
            lock.acquire, lock.release  # AttributeError: it is no lock
        super()._make(manager, _bare(lock))

    def acquire(self, blocking=True, timeout=None):
        if timeout is None:
            return call_until(self._ends, self._lock.acquire, blocking)
        threading.Lock().acquire(blocking, timeout)  # complains where the arguments make no sense
        return call_until(self._ends, self._lock.acquire, True, None if timeout == -1 else timeout)

    def release(self):
        try:
            self._lock.release()
        except (AssertionError, ValueError):
            raise RuntimeError("cannot release un-acquired lock") from None

    def locked(self):
        return self._lock._is_zero()

    def __enter__(self):
        return self.acquire()

    def wait(self, timeout=None):
        with _owned("wait on"):
            return call_until(self._ends, _core.Condition.wait, self, timeout)

    def notify(self, n=1):
        with _owned("notify on"):
            _core.Condition.notify(self, n)

    def notify_all(self):
        with _owned("notify on"):
            _core.Condition.notify_all(self)


def _bare(lock):
    """A lock without the manners of a proxy, which a condition works with natively, for the same shared lock."""
    if not isinstance(lock, (_ArenaLock, _ArenaRLock)):
        return lock
    bare = lock._native.__new__(lock._native)
    bare.__setstate__(lock._native.__getstate__(lock))
    return bare


class _owned:
    """Has the complaint that the lock is not owned made in threading's words."""

    def __init__(self, what):
        self._what = what

    def __enter__(self):
        pass

    def __exit__(self, kind, error, traceback):
        if kind is AssertionError:
            raise RuntimeError(f"cannot {self._what} un-acquired lock") from None


@managed("Event", _stdlib.EventProxy)
class _ArenaEvent(Waiting, _core.Event, _stdlib.EventProxy):
    _native = _core.Event
    _exposed_ = _stdlib.EventProxy._exposed_
    _inside = ()

    def _make(self, manager):
        _core.Event.__init__(self, ctx=manager._ctx)

    def wait(self, timeout=None):
        return self.is_set() or call_until(self._ends, _core.Event.wait, self, timeout)

    def __str__(self):
        return f"<threading.Event at {self._offset:#x}: {'set' if self.is_set() else 'unset'}>"


@managed("Barrier", _stdlib.BarrierProxy)
class _ArenaBarrier(Waiting, _core.Barrier, _stdlib.BarrierProxy):
    _native = _core.Barrier
    _exposed_ = _stdlib.BarrierProxy._exposed_
    _inside = ()

    def _make(self, manager, *args, **kwargs):
        _core.Barrier.__init__(self, *args, **kwargs, ctx=manager._ctx)

    def wait(self, timeout=None):
        return call_until(self._ends, _core.Barrier.wait, self, timeout)

    def __str__(self):
        return f"<threading.Barrier at {self._offset:#x}: waiters={self.n_waiting}/{self.parties}>"
