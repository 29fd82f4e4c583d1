"""A mirror of :mod:`multiprocessing.queues` whose queues go through shared memory.

Differences from the standard library:

- ``put()`` pickles: what cannot be pickled raises there (unless a subclass overrides ``_on_queue_feeder_error``, which is
  called instead).  When it returns, the item is in shared memory; it survives the process that put it.
- No thread, no descriptor; ``close()`` and ``join_thread()`` have nothing to wait for.
- ``put_many()`` and ``get_many()`` move many items for little more than the cost of one.
- A queue can be pickled at any time: sent through another queue, as an argument of a pool's task.

A subclass that works with the inside of the standard library's queues gets that inside (``_queue_machinery``).
"""
from ._mirror import mirror
from ._native import native

mirror(__name__)

if native("Queue") is not None:
    import functools
    import importlib

    from . import _core, _queue_machinery, _queue_parts
    from ._install import original
    from ._publish import publish

    _STDLIB = _queue_machinery.STDLIB
    _StdlibQueue = original(_STDLIB, "Queue")
    _StdlibJoinableQueue = original(_STDLIB, "JoinableQueue")
    _StdlibSimpleQueue = original(_STDLIB, "SimpleQueue")


    _publish = publish(__name__, _STDLIB)
    _machines: dict = {}  # class of this module -> the class of its queues that work by the standard library's methods


    def _machine(cls):
        if cls not in _machines:
            _machines[cls] = _queue_machinery.machinery(cls, Queue, _machine(Queue) if cls is JoinableQueue else None)
        return _machines[cls]


    def _machine_of(cls):
        """The class of this module that *cls* is a kind of."""
        return next(base for base in cls.__mro__ if base in (JoinableQueue, Queue, SimpleQueue))


    def _new_machine(name):
        cls = _machine(getattr(importlib.import_module(__name__), name))
        return cls.__new__(cls)


    def _new_of_subclass(cls, name):
        """An object of the class *cls*, which was a subclass of the class *name* of this module where it was pickled."""
        kind = getattr(importlib.import_module(__name__), name)
        if not issubclass(cls, kind):
            cls = _joined(cls, kind)  # here it was made before install(), from the standard library's class
        return cls.__new__(cls)


    @functools.cache
    def _joined(cls, base):
        return type(cls.__name__, (cls, base), {"__module__": cls.__module__, "__qualname__": cls.__qualname__})


    class _Subclassable:
        """Looks at the classes that programs make of the queues."""

        def __init_subclass__(cls, **kwargs):
            super().__init_subclass__(**kwargs)
            if cls.__module__ == __name__ or issubclass(cls, _queue_machinery.Machinery):
                return
            if _queue_machinery.asks_for_internals(cls):
                kind = _machine_of(cls)
                _queue_machinery.give(cls, kind, _machine(kind))

        def __reduce_ex__(self, protocol):
            kind = _machine_of(type(self))
            if type(self) is _machines.get(kind):
                return _new_machine, (kind.__name__,), self.__getstate__()
            if type(self).__reduce__ is not object.__reduce__:
                return self.__reduce__()
            return _new_of_subclass, (type(self), kind.__name__), self.__getstate__()

        def _become_stdlib(self, state):
            """Take the *state* of an object whose class was, where it was pickled, the standard library's or made from it."""
            cls = type(self)
            self.__class__ = _joined(cls, _machine(_machine_of(cls)))
            self._by_stdlib("__setstate__")(state)


    def _has_other_steps(cls):
        for name, step in _STEPS:
            if getattr(cls, name) is not step:
                return True
        return False


    @_publish
    class Queue(_Subclassable, _queue_parts.Parts, _core.Queue, _StdlibQueue):
        """A queue of at most *maxsize* items (0: no bound) between processes."""

        def __new__(cls, *args, **kwargs):
            if (cls is Queue or cls is JoinableQueue) and _has_other_steps(cls):
                cls = _machine(cls)
            return super().__new__(cls)

        def __init__(self, maxsize=0, *, ctx):
            super().__init__(maxsize, ctx=ctx)

        __new__.__wrapped__ = __init__  # whose arguments these are, for inspect.signature()

        def put_nowait(self, obj):
            """The same as ``put(obj, False)``, which a subclass may have of its own."""
            return self.put(obj, False)

        def get_nowait(self):
            """The same as ``get(False)``, which a subclass may have of its own."""
            return self.get(False)

        def _encode_failed(self, error, obj):
            if type(self)._on_queue_feeder_error is _StdlibQueue._on_queue_feeder_error:
                raise error
            self._on_queue_feeder_error(error, obj)

        def _raise_closed(self):
            raise ValueError(f"Queue {self!r} is closed")

        def join_thread(self):
            if isinstance(self, _queue_machinery.Machinery):
                return self._by_stdlib("join_thread")()
            assert self._closed, f"Queue {self!r} not closed"

        def cancel_join_thread(self):
            """Does nothing: there is no thread, and what was put is not lost."""
            if isinstance(self, _queue_machinery.Machinery):
                return self._by_stdlib("cancel_join_thread")()
            self._joincancelled = True


    @_publish
    class JoinableQueue(Queue, _core.JoinableQueue, _StdlibJoinableQueue):
        """A queue that knows which of its items are finished: task_done() for each, join() for all."""

        _unfinished_tasks = _queue_parts.View(_queue_parts.UnfinishedTasks)


    @_publish
    class SimpleQueue(_Subclassable, _queue_parts.EndParts, _core.Queue, _StdlibSimpleQueue):
        """A queue without a bound, with get(), put() and empty()."""

        def __init__(self, *, ctx):
            super().__init__(0, ctx=ctx)

        def close(self):
            """This process puts and gets nothing more."""
            super().close()
            if not isinstance(self, _queue_machinery.Machinery):
                self._close_reader()
                self._close_writer()

        def _encode_failed(self, error, obj):
            raise error

        def _raise_closed(self):
            raise OSError("handle is closed")


    # What the standard library has for each step; None where a program has replaced it already.
    _STEPS = [(name, step if _queue_machinery.is_stock(step) else None)
              for name, step in ((name, getattr(Queue, name)) for name in sorted(_queue_machinery.STEPS))]
