"""A managed pool in other processes than its own: as :mod:`mpfast._pool_handle`, with all that a proxy of a pool can do.

Outcomes are kept where all who have the result of a call can see them: it can be sent on, and a forked child has it, too.  Calls
with callbacks are made by the pool's own process, which is where the callbacks are called, as in a manager's server.
"""
import collections
import multiprocessing.pool as _stdlib
import queue
import threading
import time
from multiprocessing import ProcessError, TimeoutError
from multiprocessing.process import current_process
from multiprocessing.reduction import ForkingPickler

from . import _core
from ._core import call_until
from ._pool_handle import LOOK_AGAIN, HandleResult, PoolHandle, identity, runs
from .util import register_after_fork

_MAPPERS = {"map": "mapstar", "starmap": "starmapstar"}


def _dumps(obj):
    return bytes(ForkingPickler.dumps(obj))


class _Lost(EOFError):
    """The process that had what is asked for was killed."""


def _lost(owner, what):
    return _Lost(f"process {owner[0]}, which had the {what}, has ended")


class Link:
    """What the proxies of a pool have in common, wherever they are.

    requests: the queue of the pool's desk; closed: an event, set when the pool takes no more calls; over: one that is set when
    its workers are gone and every call is answered; ended: that of its manager; lease: an event that is there to have its
    references counted, by each process that still has a proxy; last: a Reply, the pool's repr when it is over; owner: identity()
    of the pool's process; processes: how many workers it began with.
    """

    def __init__(self, requests, closed, over, ended, lease, last, owner, processes):
        self.requests = requests
        self.closed = closed
        self.over = over
        self.ended = ended
        self.lease = lease
        self.last = last
        self.owner = owner
        self.processes = processes
        register_after_fork(self, Link._forked)

    def __reduce__(self):
        return Link, (self.requests, self.closed, self.over, self.ended, self.lease, self.last, self.owner, self.processes)

    def _forked(self):
        # Workers and servers have the proxies of the process that forked them, and no program that uses those.
        process = current_process()
        if hasattr(process, "_of_managed_pool") or getattr(getattr(process, "_target", None), "__name__", "") == "_run_server":
            self.lease = None

    def ends(self):
        """What ends a wait for an answer."""
        return self.ended, self.over


class Reply:
    """One outcome, to be put by one process and looked at by all."""

    def __init__(self):
        self._cell = _core.SharedList()
        self._done = _core.Event(ctx=None)

    @property
    def place(self):
        return self._cell._offset

    def put(self, outcome):
        # Of two the first one counts: who put it was killed before it could say so, and the pool took it for lost.
        self._cell.append(outcome)
        self._done.set()

    def take(self, ends, seconds):
        """Returns the outcome; queue.Empty: there is none after so many *seconds*; EOFError: one of the events *ends* is set."""
        if not self._done.is_set() and not call_until(ends, self._done.wait, seconds):
            raise queue.Empty
        return self._cell[0]


class Tray:
    """Outcomes of several calls in the order in which they come."""

    def __init__(self):
        self._queue = _core.Queue(0, ctx=None)
        self._taken = set()

    def place_for(self, index):
        """Returns where the outcome of call *index* is to be put."""
        return _Place(self._queue, index)

    def take(self, ends, seconds):
        """The same as that of Reply; the outcome of each call once."""
        while True:
            index, outcome = call_until(ends, self._queue.get, True, seconds)
            if index not in self._taken:
                self._taken.add(index)
                return outcome


class _Place:
    def __init__(self, outcomes, index):
        self._queue = outcomes
        self._index = index

    def put(self, outcome):
        # Who put one and was killed before it could say so may have a second one put for it.
        self._queue.put((self._index, outcome))


class SharedResult(HandleResult):
    """The result of a call, in any process."""

    def __init__(self, reply, link):
        super().__init__(reply, link.owner)
        self._link = link

    def __reduce__(self):
        return SharedResult, (self._reply, self._link)

    @property
    def place(self):
        return self._reply.place

    def _take(self, seconds):
        try:
            outcome = self._reply.take(self._link.ends(), seconds)
        except EOFError:
            outcome = self._at_the_end()
        if self._link.ended.is_set() and not outcome[0] and isinstance(outcome[1], ProcessError):
            raise EOFError  # which is what ended the pool
        return outcome

    def _at_the_end(self):
        try:
            return self._reply.take((), 0)  # what came before
        except queue.Empty:
            return False, ProcessError("terminated before the task was done")

    def _lost(self):
        raise _lost(self._owner, "pool")


class PiecesResult:
    """The result of a map whose pieces are calls."""

    def __init__(self, results):
        self._results = results

    @property
    def place(self):
        return self._results[0].place

    def ready(self):
        """Whether all calls are over."""
        return all(result.ready() for result in self._results)

    def wait(self, timeout=None):
        """Wait until they are, for at most *timeout* seconds."""
        end = None if timeout is None else time.monotonic() + timeout
        for result in self._results:
            result.wait(None if end is None else max(0.0, end - time.monotonic()))

    def successful(self):
        """Whether all of them returned.  ValueError if they are not over yet."""
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        return all(result.successful() for result in self._results)

    def get(self, timeout=None):
        """Returns the list of the results, or raises the first exception; multiprocessing.TimeoutError after so many seconds."""
        self.wait(timeout)
        if not self.ready():
            raise TimeoutError
        return [item for result in self._results for item in result.get()]


class HandleIterator:
    """The items of an imap whose pieces are calls; next_piece: function (timeout) that returns a list, or raises."""

    def __init__(self, next_piece):
        self._next_piece = next_piece
        self._items = collections.deque()
        self._lock = threading.Lock()

    def next(self, timeout=None):
        """Returns the next item; multiprocessing.TimeoutError after *timeout* seconds."""
        with self._lock:
            while not self._items:
                self._items.extend(self._next_piece(timeout))
            return self._items.popleft()


def _in_order(results):
    """For a HandleIterator: the outcomes of *results*, a deque."""
    def next_piece(timeout):
        if not results:
            raise StopIteration
        results[0].wait(timeout)
        if not results[0].ready():
            raise TimeoutError
        return results.popleft().get()

    return next_piece


def _as_they_come(tray, link, count):
    """For a HandleIterator: the *count* outcomes that are put on *tray*."""
    left = [None] * count

    def next_piece(timeout):
        if not left:
            raise StopIteration
        result = SharedResult(tray, link)
        result.wait(timeout)
        if not result.ready():
            raise TimeoutError
        left.pop()
        return result.get()

    return next_piece


class Channel:
    """The items of an iterator that several processes have: each goes to one of them."""

    def __init__(self, outcomes, end, ended, owner):
        self._outcomes = outcomes
        self._end = end
        self._ended = ended
        self._owner = owner

    @classmethod
    def of(cls, iterator, link):
        """A channel that takes all from *iterator*, in a thread of this process."""
        channel = cls(_core.Queue(0, ctx=None), _core.Event(ctx=None), link.ended, identity())
        threading.Thread(target=channel._fill, args=(iterator,), name="mpfast-channel", daemon=True).start()
        return channel

    def __reduce__(self):
        return Channel, (self._outcomes, self._end, self._ended, self._owner)

    @property
    def place(self):
        return self._outcomes._offset

    def _fill(self, iterator):
        last = False
        try:
            while not last and not self._ended.is_set():
                try:
                    outcome = True, iterator.next()
                except StopIteration:
                    break
                except Exception as error:
                    outcome = False, error
                    last = isinstance(error, _Lost)
                self._put(outcome)
        finally:
            _core.end(self._end)

    def _put(self, outcome):
        try:
            self._outcomes.put(outcome)
        except Exception as error:
            self._outcomes.put((False, _stdlib.MaybeEncodingError(error, outcome[1])))

    def next(self, timeout=None):
        """Returns the next item; multiprocessing.TimeoutError after *timeout* seconds."""
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            left = LOOK_AGAIN if end is None else min(LOOK_AGAIN, max(0.0, end - time.monotonic()))
            try:
                ok, value = self._take(left)
                break
            except queue.Empty:
                if left < LOOK_AGAIN:
                    raise TimeoutError from None
                if not runs(self._owner):
                    raise _lost(self._owner, "iterator") from None
        if ok:
            return value
        raise value

    def _take(self, seconds):
        try:
            return call_until((self._ended, self._end), self._outcomes.get, True, seconds)
        except EOFError:
            pass
        try:
            return self._outcomes.get(False)
        except queue.Empty:
            if self._ended.is_set():
                raise EOFError from None
            raise StopIteration from None


class ManagedHandle(PoolHandle):
    """A managed pool of another process, with the methods of its proxies."""

    def __init__(self, link):
        super().__init__(link.requests, link.closed, link.owner, link.processes)
        self.link = link

    def __reduce__(self):
        return ManagedHandle, (self.link,)

    def _check_running(self):
        if self.link.ended.is_set():
            raise EOFError
        if self._closed.is_set():
            raise ValueError("Pool not running")

    def _send(self, call, reply=None):
        """Have a worker make the *call*, (func, args, kwds)."""
        reply = reply or Reply()
        self._requests.put((_dumps(reply), _dumps(call)))
        return SharedResult(reply, self.link)

    def _ask(self, method, content=None):
        """Have the pool's process call that *method* of the pool, with the *content*: (args, kwds)."""
        reply = Reply()
        self._requests.put((_dumps(reply), None if content is None else _dumps(content), method))
        return SharedResult(reply, self.link)

    # ---- calls

    def apply_async(self, func, args=(), kwds={}, callback=None, error_callback=None, **options):
        """Have a worker call ``func(*args, **kwds)``.  Returns a SharedResult."""
        self._check_running()
        if callback or error_callback or options:
            return self._ask("apply_async", ((func, args, kwds, callback, error_callback), options))
        return self._send((func, tuple(args), dict(kwds)))

    def apply(self, func, args=(), kwds={}, **options):
        """Returns ``func(*args, **kwds)``, called by a worker."""
        return self.apply_async(func, args, kwds, **options).get()

    def map_async(self, func, iterable, chunksize=None, callback=None, error_callback=None, **options):
        """The same as map(), as a result."""
        return self._map_async("map", func, iterable, chunksize, callback, error_callback, options)

    def starmap_async(self, func, iterable, chunksize=None, callback=None, error_callback=None, **options):
        """The same as starmap(), as a result."""
        return self._map_async("starmap", func, iterable, chunksize, callback, error_callback, options)

    def _map_async(self, name, func, iterable, chunksize, callback, error_callback, options):
        self._check_running()
        items = list(iterable)
        if callback or error_callback or options or not items or (chunksize is not None and chunksize < 1):
            return self._ask(name + "_async", ((func, items, chunksize, callback, error_callback), options))
        size = chunksize or -(-len(items) // (4 * self._processes))
        return PiecesResult(self._put_pieces(_MAPPERS[name], func, items, size))

    def map(self, func, iterable, chunksize=None, **options):
        """Returns the list of ``func(item)`` for the items of *iterable*."""
        return self.map_async(func, iterable, chunksize, **options).get()

    def starmap(self, func, iterable, chunksize=None, **options):
        """The same as map() with ``func(*item)``."""
        return self.starmap_async(func, iterable, chunksize, **options).get()

    def imap(self, func, iterable, chunksize=1):
        """Returns an iterator over ``func(item)`` for the items of *iterable*, all of which are read at once."""
        self._check_chunks(chunksize, "{0:n}")
        return HandleIterator(_in_order(collections.deque(self._put_pieces("mapstar", func, list(iterable), chunksize))))

    def imap_unordered(self, func, iterable, chunksize=1):
        """The same as imap(), in the order in which the results come."""
        self._check_chunks(chunksize, "{0!r}")
        tray = Tray()
        pieces = self._put_pieces("mapstar", func, list(iterable), chunksize, tray)
        return HandleIterator(_as_they_come(tray, self.link, len(pieces)))

    def _check_chunks(self, chunksize, form):
        self._check_running()
        if chunksize < 1:
            raise ValueError("Chunksize must be 1+, not " + form.format(chunksize))

    def _put_pieces(self, mapper, func, items, size, tray=None):
        mapper = getattr(_stdlib, mapper)
        return [self._send((mapper, ((func, items[at:at + size]),), {}), tray and tray.place_for(at))
                for at in range(0, len(items), size)]

    # ---- the end

    def close(self):
        """Have no more calls taken."""
        self._have("close")

    def terminate(self):
        """Have the workers ended at once."""
        self._have("terminate")

    def _have(self, method):
        if self.link.ended.is_set():
            raise EOFError
        if not self.link.over.is_set():
            self._ask(method).wait()

    def join(self):
        """Wait until the workers have ended; after close() or terminate()."""
        link = self.link
        if not self._closed.is_set() and not link.ended.is_set():
            raise ValueError("Pool is still running")
        while not call_until((link.ended,), link.over.wait, LOOK_AGAIN):
            if not runs(self._owner):
                raise _lost(self._owner, "pool")
        if link.ended.is_set():
            raise EOFError

    def describe(self):
        """Returns the repr of the pool."""
        text = SharedResult(self.link.last, self.link) if self.link.over.is_set() else self._ask("__repr__")
        return text.get()
