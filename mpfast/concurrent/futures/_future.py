"""The future of a task of a native executor: a :class:`concurrent.futures.Future` that fetches its result itself.

It is a receiver of the crew.  Whoever asks for its result takes results out of shared memory, without another thread; only
while a future has callbacks or waiters (``wait``, ``as_completed``) the executor's thread takes them.

Settled means that the rest of the program has been told that it is over.  A result that is in (``ready``) settles its
future when somebody looks, at once if there are waiters or callbacks.  Both happen under the lock that all futures of an
executor share, so that whoever holds it (``as_completed`` does, while it looks at states and adds its waiter) sees a
future either settled or tells it whom to notify.
"""
import threading
from concurrent.futures import _base
from concurrent.futures._base import CANCELLED, CANCELLED_AND_NOTIFIED, FINISHED, LOGGER, PENDING, RUNNING
from typing import Any

from ..._native import core


_RLock: Any = type(threading.RLock())


class SharedCondition(_RLock):
    """The condition of all futures of an executor; making one for each would cost more than the rest of a future."""

    _waited_for = None

    def _condition(self):
        if self._waited_for is None:
            self._waited_for = threading.Condition(self)
        return self._waited_for

    def wait(self, timeout=None):
        """See threading.Condition."""
        return self._condition().wait(timeout)

    def wait_for(self, predicate, timeout=None):
        """See threading.Condition."""
        return self._condition().wait_for(predicate, timeout)

    def notify(self, n=1):
        """See threading.Condition."""
        if self._waited_for is not None:
            self._waited_for.notify(n)

    def notify_all(self):
        """See threading.Condition."""
        if self._waited_for is not None:
            self._waited_for.notify_all()


class _Waiters:
    """What ``future._waiters`` gives to the functions of concurrent.futures: a list that the future notices changes of."""

    __slots__ = ("_future",)

    def __init__(self, future):
        self._future = future

    def append(self, waiter):
        self._future._add_waiter(waiter)

    def remove(self, waiter):
        self._future._waiting.remove(waiter)

    def __iter__(self):
        return iter(self._future._waiting or ())

    def __len__(self):
        return len(self._future._waiting or ())


class Future(core.Receiver, _base.Future):
    """The outcome of a call in another process; see :class:`concurrent.futures.Future`."""

    __slots__ = ("_condition", "_host", "_settled", "_waiting", "_callbacks", "_attended", "_told")

    def __init__(self, host):
        self._condition = host.condition
        self._host = host
        self._settled = self._waiting = self._callbacks = self._attended = self._told = None

    def __reduce__(self):
        raise TypeError(f"cannot pickle {type(self).__name__!r} object")

    # -- what a program asks

    def result(self, timeout=None):
        """Waits up to *timeout* seconds; returns what the call returned or raises what it raised.

        Raises TimeoutError when it is not over by then, CancelledError when it was cancelled.
        """
        if not self.ready and not self.wait(timeout):
            raise _base.TimeoutError()
        if self.ok:
            return self.value
        if self._settled is CANCELLED_AND_NOTIFIED:
            raise _base.CancelledError()
        try:
            raise self.value
        finally:
            self = None  # the exception's traceback refers to this frame, and the future to the exception

    def exception(self, timeout=None):
        """Waits as result() does; returns what the call raised, None if it returned."""
        if not self.ready and not self.wait(timeout):
            raise _base.TimeoutError()
        if self.ok:
            return None
        if self._settled is CANCELLED_AND_NOTIFIED:
            raise _base.CancelledError()
        return self.value

    def done(self):
        """Whether it is over: returned, raised or cancelled."""
        return self._is_over()

    def running(self):
        """Whether a worker has taken the task and not finished it."""
        return self._state == RUNNING

    def cancelled(self):
        """Whether it was cancelled."""
        return self._settled is CANCELLED_AND_NOTIFIED

    def cancel(self):
        """Cancels the task unless a worker has taken it.  Returns whether it is cancelled."""
        with self._condition:
            if self._settled is not None or self._is_over():
                return self._settled is CANCELLED_AND_NOTIFIED
            crew = self.crew
            if crew is None or not crew.cancel(self.ordinal):
                return False
            self._settle_cancelled()
        self._invoke_callbacks()
        return True

    def add_done_callback(self, fn):
        """Calls ``fn(future)`` when it is over: in the executor's thread, or at once if it is over already."""
        with self._condition:
            over = self._is_over()
            if not over:
                if self._callbacks is None:
                    self._callbacks = []
                self._callbacks.append(fn)
                if self._attend():
                    return
                self._settle_finished()
        if not over:
            self._invoke_callbacks()
            return
        try:
            fn(self)
        except Exception:
            LOGGER.exception("exception calling callback for %r", self)

    # -- what executors and the functions of concurrent.futures ask

    def __repr__(self):
        self._is_over()
        return super().__repr__()

    @property
    def _state(self):
        if self._settled is not None:
            return self._settled
        if self._condition._is_owned():
            # wait() and as_completed() look more than once, under the lock, before they add their waiters: what they were
            # told first has to hold for so long.
            if not self._told:
                self._told = not self._is_over()
        else:
            self._is_over()
        if self._settled is not None:
            return self._settled
        crew = self.crew
        if crew is None:
            return RUNNING
        return RUNNING if crew.claimed(self.ordinal) is not None else PENDING

    @property
    def _result(self):
        return self.value if self.ready and self.ok else None

    @property
    def _exception(self):
        return self.value if self.ready and not self.ok and self._settled is not CANCELLED_AND_NOTIFIED else None

    @property
    def _waiters(self):
        return _Waiters(self)

    @property
    def _done_callbacks(self):
        return list(self._callbacks or ())

    def _get_snapshot(self):
        if not self._is_over():
            return False, False, None, None
        if self._settled is CANCELLED_AND_NOTIFIED:
            return True, True, None, None
        return True, False, self._result, self._exception

    def set_running_or_notify_cancel(self):
        """Returns whether the task is still to be run.  RuntimeError when it is running or over."""
        state = self._state
        if state == PENDING:
            return True
        LOGGER.critical("Future %s in unexpected state: %s", id(self), state)
        raise RuntimeError("Future in unexpected state")

    def set_result(self, result):
        """Settles the future; what the task gives is dropped.  InvalidStateError when it is over."""
        self._set(True, result)

    def set_exception(self, exception):
        """Settles the future; what the task gives is dropped.  InvalidStateError when it is over."""
        self._set(False, exception)

    def _set(self, ok, value):
        with self._condition:
            if self._is_over():
                raise _base.InvalidStateError(f"{self._settled}: {self!r}")
            crew = self.crew
            if crew is not None:
                crew.cancel(self.ordinal)
            self.finish(ok, value)
            self._settle_finished()
        self._invoke_callbacks()

    # -- settling

    def _is_over(self):
        """Whether it is over, after a look at what has arrived; what is over is settled then."""
        if self._settled is not None:
            return True
        if not self.ready:
            crew = self.crew
            if crew is not None:
                crew.collect(None, 0)
            if not self.ready:
                return False
        with self._condition:
            if self._settled is None:
                self._settle_finished()
        return True

    def _add_waiter(self, waiter):
        with self._condition:
            if self._waiting is None:
                self._waiting = []
            self._waiting.append(waiter)
            self._told = None
            if self._settled is None and not self._attend():
                self._settle_finished()

    def _attend(self):
        """Have the executor's thread collect for this future.  False: the result is in already, and nobody was told."""
        if not self._attended:
            self.background = True
            if self.ready:
                return False
            self._attended = True
            self._host.attend()  # which may bring the result
        return True

    def _resolve(self, ok, value):
        """The result is in; called by whoever collected it, with waiters or callbacks to be told."""
        if self._callbacks and not self._host.on_thread():
            self._host.call_later(self._resolve, ok, value)  # callbacks may take long, and belong to that thread
            return
        with self._condition:
            if not self.finish(ok, value):
                return
            self._settle_finished()
        self._invoke_callbacks()

    def fail(self, error):
        """The executor gives up the task."""
        with self._condition:
            if not self.finish(False, error):
                return
            self._settle_finished()
        self._invoke_callbacks()

    def taken_out_of_line(self, index):
        """The executor has cancelled the task."""
        with self._condition:
            if self.ready:
                return
            self._settle_cancelled()
        self._invoke_callbacks()

    def _settle_finished(self):
        self._settled = FINISHED
        if self._waiting:
            for waiter in self._waiting:
                if self.ok:
                    waiter.add_result(self)
                else:
                    waiter.add_exception(self)
        self._no_longer_attended()

    def _settle_cancelled(self):
        self._settled = CANCELLED_AND_NOTIFIED
        self.finish(False, _base.CancelledError())
        if self._waiting:
            for waiter in self._waiting:
                waiter.add_cancelled(self)
        self._no_longer_attended()

    def _no_longer_attended(self):
        if self._attended:
            self._attended = False
            self._host.unattend()
        self._condition.notify_all()

    def _invoke_callbacks(self):
        callbacks, self._callbacks = self._callbacks, None
        for callback in callbacks or ():
            try:
                callback(self)
            except Exception:
                LOGGER.exception("exception calling callback for %r", self)


Future.__module__ = _base.Future.__module__
