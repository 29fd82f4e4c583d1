"""A pool in other processes than its own: what a pool becomes when it is sent as an argument.

A handle puts its calls into a queue of the pool, which its supervising thread reads; the worker that makes the call puts the
outcome straight into a queue that came with it.  What the worker cannot tell any more, that it was lost or that the pool was
terminated, the supervising thread puts there.  Whoever waits takes what comes first.
"""
import itertools
import multiprocessing.pool as _stdlib
import os
import pickle
import queue
import time
from multiprocessing.context import TimeoutError
from multiprocessing.reduction import ForkingPickler

from . import _native, context as _context
from ._crew import RUN
from ._errors import WorkerLostError
from ._pool_results import _Heard

LOOK_AGAIN = 1.0  # seconds after which who waits looks whether the pool's process is still there


def _decoded_reply(data):
    """The queue for the outcome of a call; None if who made the call has ended meanwhile: nobody waits for it."""
    try:
        return pickle.loads(data)
    except Exception:
        return None


def _run(reply, payload):
    """Make the call of a *payload*, in a worker."""
    try:
        func, args, kwds = pickle.loads(payload)
        outcome = (True, func(*args, **kwds))
    except Exception as error:
        outcome = (False, _stdlib.ExceptionWithTraceback(error, error.__traceback__))
    if reply is None:
        return
    try:
        reply.put(outcome)
    except Exception as error:
        reply.put((False, _stdlib.MaybeEncodingError(error, outcome[1])))


class _Remote(_Heard, _native.core.Receiver):
    """Sees to it that a call is answered."""

    __init__ = object.__init__

    def _deliver(self, ok, value):
        if not ok and self._reply is not None:
            self._reply.put((False, value))
        self.finish(ok, None)

    def _give_up(self, error):
        self._deliver(False, error)


def _refuse(reply, error):
    if reply is not None:
        reply.put((False, error))


class Desk:
    """Where the supervising thread takes the calls of handles."""

    def __init__(self, supervisor):
        self._supervisor = supervisor
        context = _context._default_context.get_context()
        self.requests = context.Queue()
        self.closed = context.Event()
        self.descriptor = self.requests._reader.fileno()

    def handle(self):
        """Returns the function and the arguments that make a handle."""
        return PoolHandle, (self.requests, self.closed, identity(), self._supervisor.processes)

    def _arrived(self):
        while True:
            try:
                reply, *request = self.requests.get_nowait()
            except queue.Empty:
                return
            yield _decoded_reply(reply), request

    def close(self):
        """Serve no more.  A call that is put after its handle has seen `closed` unset is answered here, or by the handle."""
        self.closed.set()
        for reply, _ in self._arrived():
            _refuse(reply, self._supervisor.failure or ValueError("Pool not running"))

    def serve(self):
        """Pass on every call that has come."""
        for reply, request in self._arrived():
            self._serve(reply, *request)

    def _serve(self, reply, payload):
        if self._supervisor.state != RUN:
            _refuse(reply, ValueError("Pool not running"))
            return
        remote = _Remote()
        remote._reply = reply
        remote._be_heard(self._supervisor)
        try:
            self._supervisor.crew.submit(_run, (reply, payload), None, remote)
        except Exception as error:
            self._supervisor.resolved(remote, False, error)
        else:
            self._supervisor.put(remote)


def identity():
    """Returns what :func:`runs` tells this process by."""
    pid = os.getpid()
    return pid, _native.core.process_start_time(pid)


def runs(identity):
    """Whether that process has not ended."""
    pid, started = identity
    try:
        return _native.core.process_start_time(pid) == started
    except ProcessLookupError:
        return False
    except OSError:
        return True  # this system does not say


class HandleResult:
    """The result of a call through a handle; as AsyncResult."""

    def __init__(self, reply, owner):
        self._reply = reply
        self._owner = owner
        self._outcome = None

    def ready(self):
        """Whether the call is over."""
        self.wait(0)
        return self._outcome is not None

    def wait(self, timeout=None):
        """Wait until the call is over, for at most *timeout* seconds."""
        end = None if timeout is None else time.monotonic() + timeout
        while self._outcome is None:
            left = LOOK_AGAIN if end is None else min(LOOK_AGAIN, max(0.0, end - time.monotonic()))
            try:
                self._outcome = self._take(left)
            except queue.Empty:
                if left < LOOK_AGAIN:
                    return
                if not runs(self._owner):
                    self._outcome = self._lost()

    def _take(self, seconds):
        return self._reply.get(True, seconds)

    def _lost(self):
        return False, WorkerLostError(self._owner[0], None, "the pool")

    def successful(self):
        """Whether the call returned.  ValueError if it is not over yet."""
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        return self._outcome[0]

    def get(self, timeout=None):
        """Returns the result, or raises what the call raised; multiprocessing.TimeoutError after *timeout* seconds."""
        self.wait(timeout)
        if self._outcome is None:
            raise TimeoutError
        ok, value = self._outcome
        if ok:
            return value
        raise value


class PoolHandle:
    """A pool of another process: its methods that make calls.  Only its own process can close or terminate it.

    A worker that waits for calls that it has made this way is not free to do them: there have to be others.
    """

    def __init__(self, requests, closed, owner, processes):
        self._requests = requests
        self._closed = closed
        self._owner = owner
        self._processes = processes

    def __reduce__(self):
        return PoolHandle, (self._requests, self._closed, self._owner, self._processes)

    def apply(self, func, args=(), kwds={}):
        """Returns ``func(*args, **kwds)``, called by a worker."""
        return self.apply_async(func, args, kwds).get()

    def apply_async(self, func, args=(), kwds={}):
        """Have a worker call ``func(*args, **kwds)``.  Returns a HandleResult."""
        reply = _context._default_context.get_context().Queue()
        result = HandleResult(reply, self._owner)
        try:
            payload = bytes(ForkingPickler.dumps((func, tuple(args), dict(kwds))))
        except Exception as error:
            result._outcome = (False, error)
        else:
            self._requests.put((bytes(ForkingPickler.dumps(reply)), payload))
            if self._closed.is_set():
                result._outcome = (False, ValueError("Pool not running"))
        return result

    def map(self, func, iterable, chunksize=None):
        """Returns the list of ``func(item)`` for the items of *iterable*."""
        return list(itertools.chain.from_iterable(self._pieces(_stdlib.mapstar, func, iterable, chunksize)))

    def starmap(self, func, iterable, chunksize=None):
        """The same as map() with ``func(*item)``."""
        return list(itertools.chain.from_iterable(self._pieces(_stdlib.starmapstar, func, iterable, chunksize)))

    def imap(self, func, iterable, chunksize=1):
        """Returns an iterator over ``func(item)`` for the items of *iterable*, all of which are read at once."""
        return itertools.chain.from_iterable(self._pieces(_stdlib.mapstar, func, iterable, chunksize))

    def _pieces(self, mapper, func, iterable, chunksize):
        items = list(iterable)
        size = chunksize or -(-len(items) // (4 * self._processes)) or 1
        results = [self.apply_async(mapper, ((func, items[at:at + size]),)) for at in range(0, len(items), size)]
        return (result.get() for result in results)
