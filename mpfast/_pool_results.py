"""What the methods of a native pool return: the standard library's result classes by native means."""
import multiprocessing.pool as _stdlib
import threading

from . import _native
from ._install import original

_Receiver = _native.core.Receiver
_Stream = _native.core.Stream
_wait = _Receiver.wait
_next = _Stream.next

StdlibApplyResult = original(_stdlib.__name__, "ApplyResult")
StdlibMapResult = original(_stdlib.__name__, "MapResult")
StdlibIMapIterator = original(_stdlib.__name__, "IMapIterator")
StdlibIMapUnorderedIterator = original(_stdlib.__name__, "IMapUnorderedIterator")


def _as_stdlib(cls):
    cls.__module__ = _stdlib.__name__
    return cls


class _Part:
    """The standard library's private attributes, for programs that look at them."""

    @property
    def _pool(self):
        return self.owner

    @property
    def _job(self):
        return self.ordinal

    @property
    def _cache(self):
        return {} if self.owner is None else self.owner._cache


class _Heard:
    """A receiver whose result is wanted on the supervising thread: because it has callbacks."""

    _supervisor = None

    def _be_heard(self, supervisor):
        """To be called before it is submitted."""
        self._supervisor = supervisor
        self.background = True
        supervisor.heard.add(self)

    def _resolve(self, ok, value):
        self._supervisor.resolved(self, ok, value)

    def _deliver(self, ok, value):
        """Tell those who wanted to hear, on the supervising thread, then those who wait."""
        raise NotImplementedError

    def _give_up(self, error):
        """End it because the pool was terminated."""
        self.finish(False, error)


@_as_stdlib
class ApplyResult(_Heard, _Part, _Receiver, StdlibApplyResult):
    """The result of one call: :meth:`get`, :meth:`wait`, :meth:`ready`, :meth:`successful`."""

    __init__ = object.__init__
    _callback = None
    _error_callback = None

    def _set_callbacks(self, callback, error_callback, supervisor):
        """To be called before it is submitted."""
        self._callback = callback
        self._error_callback = error_callback
        self._be_heard(supervisor)

    def ready(self):
        """Whether the call is over."""
        return _wait(self, 0)

    def wait(self, timeout=None):
        """Wait until the call is over, for at most *timeout* seconds."""
        _wait(self, timeout)

    def successful(self):
        """Whether the call returned.  ValueError if it is not over yet."""
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        return self.ok

    def _deliver(self, ok, value):
        try:
            callback = self._callback if ok else self._error_callback
            if callback:
                callback(value)
        finally:
            self.finish(ok, value)

    @property
    def _success(self):
        return self.ok

    @property
    def _value(self):
        return self.value


@_as_stdlib
class MapResult(ApplyResult, StdlibMapResult):
    """The result of a map: the list of results, or the first exception."""

    __init__ = object.__init__
    _chunksize = 0

    @property
    def _number_left(self):
        self.ready()
        return self.remaining


@_as_stdlib
class IMapIterator(_Part, _Stream, StdlibIMapIterator):
    """The results of an imap as they come, in the order of the input."""

    __init__ = object.__init__
    next = _Stream.next
    __next__ = _Stream.__next__
    __iter__ = _Stream.__iter__


@_as_stdlib
class IMapUnorderedIterator(IMapIterator, StdlibIMapUnorderedIterator):
    """The results of an imap_unordered as they come."""

    __init__ = object.__init__


class _Attended:
    """An iterator over results that has something to do at each step.

    With *buffersize*, the input is read here, so far ahead as is allowed, before waiting for a result; with *bar*, each item
    is counted there.
    """

    _bar = None
    _source = None
    _given = 0

    def _attend(self, bar, source, buffersize):
        self._bar = bar
        self._source = source
        self._buffersize = buffersize
        self._lock = threading.Lock()
        self._read_ahead()

    def _read_ahead(self):
        if self._source is not None and not self._source.read_until(self._given + self._buffersize):
            self._source = None

    def next(self, timeout=None):
        """Returns the next result; waits for at most *timeout* seconds, then raises multiprocessing.TimeoutError."""
        with self._lock:
            self._read_ahead()
        try:
            value = _next(self, timeout)
        except StopIteration:
            self._leave()
            raise
        except _stdlib.TimeoutError:
            raise
        except BaseException:
            self._count()
            raise
        self._count()
        return value

    def __next__(self):
        return self.next()

    def _count(self):
        self._given += 1
        if self._bar is not None:
            self._bar.update(1)

    def _leave(self):
        if self._bar is not None:
            self._bar.close()
            self._bar = None


@_as_stdlib
class AttendedIMapIterator(_Attended, IMapIterator):
    pass


@_as_stdlib
class AttendedIMapUnorderedIterator(_Attended, IMapUnorderedIterator):
    pass


for _class in (AttendedIMapIterator, AttendedIMapUnorderedIterator):
    _class.__name__ = _class.__qualname__ = _class.__name__.removeprefix("Attended")


class Relay(_Heard, _Receiver):
    """Carries the result of one task to an object of the standard library's result classes."""

    def _aim(self, cache, job, index):
        self._target = (cache, job, index)

    def _deliver(self, ok, value):
        cache, job, index = self._target
        try:
            cache[job]._set(index, (ok, value))
        except KeyError:
            pass  # nobody wants it any more
        finally:
            self.finish(ok, None)
