"""A mirror of :mod:`multiprocessing.synchronize` with native primitives.

Each class here is two things at once: the native type, which has the methods, and the standard library's class of the same
name, for ``isinstance``, ``repr`` and what else is written in Python there.  Differences from the standard library:

- They can be pickled at any time: sent through a queue, as an argument of a pool's task, to a process that runs.
- A lock whose owner was killed is handed on, with :class:`mpfast.OwnerDiedWarning` (:func:`mpfast.set_strict`), the
  permits of a killed process come back to a :class:`BoundedSemaphore`, and a killed party breaks a :class:`Barrier`.
- A :class:`Condition` can be made of any object with ``acquire()`` and ``release()``.
- A timeout that no clock can tell (``inf``) means to wait for ever.
"""
from ._mirror import mirror
from ._native import native

mirror(__name__)

if native("Lock") is not None:
    from . import _bootstrap, _core  # noqa: F401
    from ._install import original
    from ._publish import publish

    _STDLIB = "multiprocessing.synchronize"
    _Semaphore = original(_STDLIB, "Semaphore")
    RECURSIVE_MUTEX = original(_STDLIB, "RECURSIVE_MUTEX")
    SEMAPHORE = original(_STDLIB, "SEMAPHORE")


    class _Inside:
        """A part of a primitive that programs and ``repr`` look for, made when it is asked for.

        Assigning to the attribute of an instance replaces it there, as in the standard library.
        """

        def __init__(self, make):
            self._make = make

        def __get__(self, primitive, cls):
            return self if primitive is None else self._make(primitive)


    class SemLockView:
        """What ``_semlock`` is: the methods of ``_multiprocessing.SemLock`` on a native primitive."""

        __slots__ = ("_of", "kind", "maxvalue")
        SEM_VALUE_MAX = original(_STDLIB, "SEM_VALUE_MAX")
        name = None

        def __init__(self, of, kind=SEMAPHORE, maxvalue=1):
            self._of = of
            self.kind = kind
            self.maxvalue = maxvalue

        @property
        def handle(self):
            return self._of._offset

        def __getattr__(self, name):
            if name in ("acquire", "release", "_count", "_is_mine", "_get_value", "_is_zero"):
                return getattr(self._of, name)
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

        def __enter__(self):
            return self._of.__enter__()

        def __exit__(self, *exc_info):
            return self._of.__exit__(*exc_info)

        def _after_fork(self):
            """Nothing is to be done after a fork: who has a lock is known by process and thread."""


    class _Figure:
        """One of the counters that the standard library keeps in semaphores of a Condition, to be read only."""

        __slots__ = ("_read",)

        def __init__(self, read):
            self._read = read

        def get_value(self):
            return self._read()

        _get_value = get_value

        @property
        def _semlock(self):
            return self


    class _Flag:
        """An Event as the semaphore of one permit that the standard library keeps its state in."""

        __slots__ = ("_event",)

        def __init__(self, event):
            self._event = event

        def acquire(self, block=True, timeout=None):
            taken = self._event.wait(timeout) if block else self._event.is_set()
            if taken:
                self._event.clear()
            return taken

        def release(self):
            self._event.set()

        def get_value(self):
            return int(self._event.is_set())


    _publish = publish(__name__, _STDLIB)


    @_publish
    class Lock(_core.Lock, original(_STDLIB, "Lock")):
        __doc__ = _core.Lock.__doc__
        _semlock = _Inside(SemLockView)


    @_publish
    class RLock(_core.RLock, original(_STDLIB, "RLock")):
        __doc__ = _core.RLock.__doc__
        _semlock = _Inside(lambda self: SemLockView(self, RECURSIVE_MUTEX))


    @_publish
    class Semaphore(_core.Semaphore, _Semaphore):
        __doc__ = _core.Semaphore.__doc__
        _semlock = _Inside(lambda self: SemLockView(self, maxvalue=self._maxvalue()))
        get_value = _core.Semaphore._get_value


    @_publish
    class BoundedSemaphore(_core.BoundedSemaphore, Semaphore, original(_STDLIB, "BoundedSemaphore")):
        __doc__ = _core.BoundedSemaphore.__doc__
        get_value = _core.BoundedSemaphore._get_value


    @_publish
    class Condition(_core.Condition, original(_STDLIB, "Condition")):
        __doc__ = _core.Condition.__doc__
        _sleeping_count = _Inside(lambda self: _Figure(self._waiters))
        _woken_count = _wait_semaphore = _Inside(lambda self: _Figure(int))


    @_publish
    class Event(_core.Event, original(_STDLIB, "Event")):
        __doc__ = _core.Event.__doc__
        _flag = _Inside(_Flag)


    @_publish
    class Barrier(_core.Barrier, original(_STDLIB, "Barrier")):
        __doc__ = _core.Barrier.__doc__
        _state = _Inside(lambda self: -2 if self.broken else 0)
        _count = _Inside(lambda self: self.n_waiting)
