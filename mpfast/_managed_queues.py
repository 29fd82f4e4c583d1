"""Queues that a local manager makes: those of :mod:`queue`, between processes."""
import sys
import time

from . import _core
from ._install import original
from ._managed import Absent, Arena, managed

_BaseProxy = original("multiprocessing.managers", "BaseProxy")


def _check_timeout(block, timeout):
    if block and timeout < 0:
        raise ValueError("'timeout' must be a non-negative number")


class _Queue(Arena):
    _inside = ()
    close = Absent("close")

    def _make(self, manager, maxsize=0):
        _core.JoinableQueue.__init__(self, maxsize, ctx=manager._ctx)

    def put(self, item, block=True, timeout=None, _put=_core.JoinableQueue.put):
        if timeout is not None and self._maxsize > 0:
            _check_timeout(block, timeout)
        _put(self, item, block, timeout)

    def get(self, block=True, timeout=None, _get=_core.JoinableQueue.get):
        if timeout is not None:
            _check_timeout(block, timeout)
        return _get(self, block, timeout)

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
    from queue import Empty, Full, ShutDown

    _QUEUE_METHODS += ("shutdown",)
    # How long a blocked put() or get() may go on after a shutdown(), in seconds.
    _NOTICED_WITHIN = 0.1

    class _ClosingQueue(_Queue):  # type: ignore
        """A queue that can be shut down."""

        def _make(self, manager, maxsize=0):
            super()._make(manager, maxsize)
            self._down = _core.Event(ctx=manager._ctx)

        def __getstate__(self):
            return _core.JoinableQueue.__getstate__(self), self._down

        def __setstate__(self, state):
            state, self._down = state
            _core.JoinableQueue.__setstate__(self, state)

        def put(self, item, block=True, timeout=None):
            if self._down.is_set():
                raise ShutDown
            if timeout is not None and self._maxsize > 0:
                _check_timeout(block, timeout)
            self._until_shut_down(lambda *when: _core.JoinableQueue.put(self, item, *when), Full, block, timeout)

        def get(self, block=True, timeout=None):
            if timeout is not None:
                _check_timeout(block, timeout)
            return self._until_shut_down(lambda *when: _core.JoinableQueue.get(self, *when), Empty, block, timeout)

        def _until_shut_down(self, call, failure, block, timeout):
            """What *call* returns, which raises *failure* where the queue has to be waited for."""
            try:
                return call(False)
            except failure:
                if self._down.is_set():
                    raise ShutDown from None
                if not block:
                    raise
            deadline = None if timeout is None else time.monotonic() + timeout
            while True:
                left = _NOTICED_WITHIN if deadline is None else min(_NOTICED_WITHIN, deadline - time.monotonic())
                try:
                    return call(True, max(0.0, left))
                except failure:
                    if self._down.is_set():
                        raise ShutDown from None
                    if deadline is not None and time.monotonic() >= deadline:
                        raise

        def shutdown(self, immediate=False):
            """Has put() raise queue.ShutDown, and get() too, when the queue is empty; immediate: drops what is in it."""
            self._down.set()
            while immediate:
                try:
                    _core.JoinableQueue.get(self, False)
                except Empty:
                    break
                self.task_done()

    _Queue = _ClosingQueue  # type: ignore


@managed("Queue")
class _ArenaQueue(_Queue, _core.JoinableQueue, _BaseProxy):
    _exposed_ = _QUEUE_METHODS


@managed("JoinableQueue")
class _ArenaJoinableQueue(_Queue, _core.JoinableQueue, _BaseProxy):
    _exposed_ = _QUEUE_METHODS
