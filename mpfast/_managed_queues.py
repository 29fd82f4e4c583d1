"""Queues that a local manager makes: those of :mod:`queue`, between processes."""
import sys

from . import _core
from ._core import call_until
from ._install import original
from ._managed import Absent, Waiting, managed

_BaseProxy = original("multiprocessing.managers", "BaseProxy")


class _Queue(Waiting):
    _native = _core.JoinableQueue
    _inside = ()
    _ends = _core.ManagedQueue._ends
    close, put_many, get_many = Absent("close"), Absent("put_many"), Absent("get_many")

    def _make(self, manager, maxsize=0):
        _core.JoinableQueue.__init__(self, maxsize, ctx=manager._ctx)

    def join(self):
        call_until(self._ends, _core.JoinableQueue.join, self)

    def put_nowait(self, item):
        return self.put(item, False)

    def get_nowait(self):
        return self.get(False)

    def _encode_failed(self, error, obj):
        raise error

    def _raise_closed(self):
        raise ValueError(f"Queue {self!r} is closed")


_QUEUE_METHODS = ("empty", "full", "get", "get_nowait", "join", "put", "put_nowait", "qsize", "task_done")

if sys.version_info >= (3, 13):
    from queue import Empty

    _QUEUE_METHODS += ("shutdown",)

    class _ClosingQueue(_Queue):  # type: ignore
        """A queue that can be shut down."""

        def _make(self, manager, maxsize=0):
            super()._make(manager, maxsize)
            self._down = _core.Event(ctx=manager._ctx)

        def __getstate__(self):
            return super().__getstate__(), self._down

        def __setstate__(self, state):
            state, self._down = state
            super().__setstate__(state)

        def shutdown(self, immediate=False):
            """Has put() raise queue.ShutDown, and get() too, when the queue is empty; immediate: drops what is in it."""
            _core.end(self._down)
            while immediate:
                try:
                    _core.JoinableQueue.get(self, False)
                except Empty:
                    break
                self.task_done()

    _Queue = _ClosingQueue  # type: ignore


@managed("Queue")
class _ArenaQueue(_Queue, _core.ManagedQueue, _BaseProxy):
    _exposed_ = _QUEUE_METHODS


@managed("JoinableQueue")
class _ArenaJoinableQueue(_Queue, _core.ManagedQueue, _BaseProxy):
    _exposed_ = _QUEUE_METHODS
