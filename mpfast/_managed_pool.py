"""Pools that a local manager makes, and what their methods return.

The pool is in the process that asked for it, whose workers are children of that process, and its proxies there call the pool's
own methods.  Proxies in other processes have a handle (:mod:`mpfast._managed_pool_handle`); what keeps the pool alive for them is
in :mod:`mpfast._managed_pool_host`.
"""
import functools
import multiprocessing.managers as _stdlib
import os
import threading
import weakref
from multiprocessing import ProcessError
from multiprocessing.reduction import ForkingPickler

from ._core import call_until
from ._install import original
from ._managed import Arena, Waiting, managed, raise_gone
from ._managed_pool_handle import Channel, ManagedHandle, PiecesResult, Reply, SharedResult
from ._managed_pool_host import Host, forking, host_of

_BaseProxy = original("multiprocessing.managers", "BaseProxy")


def _until(ends, call, *args, **kwds):
    """What ``call(*args, **kwds)`` returns; EOFError if that waits and the manager has shut down."""
    try:
        return call_until(ends, functools.partial(call, **kwds) if kwds else call, *args)
    except ProcessError:
        if ends[0].is_set():  # which is what ended the pool
            raise EOFError from None
        raise


@managed("Pool", _stdlib.PoolProxy)
class _ArenaPool(Waiting, _stdlib.PoolProxy):
    _exposed_ = _stdlib.PoolProxy._exposed_
    _inside = ()

    def _make(self, manager, *args, **kwargs):
        host = Host(manager, args, kwargs)
        self._attach(host.link, host)

    def _attach(self, link, host):
        self._link = link
        self._host = host
        self._handle = ManagedHandle(link)
        self._ends = (link.ended,)
        if host is not None:
            host.add(self)

    def __getstate__(self):
        return self._link

    def __setstate__(self, link):
        host = host_of(link)
        self._attach(link if host is None else host.link, host)

    def _place(self):
        return self._link.over._offset

    def _is_here(self):
        return self._host is not None and self._host.pid == os.getpid()

    def _side(self):
        """The pool itself in its own process, else the handle."""
        if not self._is_here():
            return self._handle
        if self._link.ended.is_set():
            raise_gone(self)
        return self._host.pool

    # ---- calls

    def apply(self, *args, **kwds):
        return _until(self._ends, self._side().apply, *args, **kwds)

    def map(self, *args, **kwds):
        return _until(self._ends, self._side().map, *args, **kwds)

    def starmap(self, *args, **kwds):
        return _until(self._ends, self._side().starmap, *args, **kwds)

    def apply_async(self, *args, **kwds):
        return self._result(self._side().apply_async(*args, **kwds), args, kwds)

    def map_async(self, *args, **kwds):
        return self._result(self._side().map_async(*args, **kwds), args, kwds)

    def starmap_async(self, *args, **kwds):
        return self._result(self._side().starmap_async(*args, **kwds), args, kwds)

    def _result(self, result, args, kwds):
        if self._is_here() and result.ready() and not result.successful():
            # Of what cannot be pickled the standard library complains at once.
            ForkingPickler.dumps(([arg for arg in args if not hasattr(arg, "__next__")], kwds))
        proxy = _ArenaAsyncResult.__new__(_ArenaAsyncResult)
        proxy._begin(self, result)
        return proxy

    def imap(self, func, iterable, chunksize=1, **options):
        return self._iterator(self._side().imap(func, iterable, chunksize, **options), chunksize)

    def imap_unordered(self, func, iterable, chunksize=1, **options):
        return self._iterator(self._side().imap_unordered(func, iterable, chunksize, **options), chunksize)

    def _iterator(self, iterator, chunksize):
        proxy = _ArenaIterator.__new__(_ArenaIterator)
        proxy._begin(self, iterator)
        proxy._flat = chunksize > 1
        return proxy

    # ---- the end

    def close(self):
        self._side().close()

    def terminate(self):
        self._side().terminate()

    def join(self):
        self._side().join()

    def _getvalue(self):
        raise _stdlib.RemoteError("Unserializable message: NotImplementedError: pool objects cannot be passed between "
                                  "processes or pickled\n")

    def __str__(self):
        try:
            return repr(self._side()) if self._is_here() else self._handle.describe()
        except Exception:
            return repr(self)[:-1] + "; '__str__()' failed>"


_shareable = weakref.WeakSet()  # what this process waits for, which a forked child has, too


class _OfPool(Arena):
    """What a pool's method returned.  It keeps the pool alive; in other processes it is what :meth:`_as_shared` returns."""

    _shared = None
    _over = False  # everything is in

    def _begin(self, pool, own):
        self._pool = pool
        self._own = own
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._ends = pool._ends
        _shareable.add(self)

    def __getstate__(self):
        return self._pool, self._as_shared()

    def __setstate__(self, state):
        pool, shared = state
        self._begin(pool, shared)
        self._shared = shared

    @property
    def _manager(self):
        return self._pool._manager

    def _place(self):
        return self._as_shared().place

    def _now(self):
        """What to ask in this process."""
        if self._pool._is_here() and self._ends[0].is_set():
            raise_gone(self)
        if self._shared is not None and not (self._keeps_own and self._pid == os.getpid()):
            return self._shared
        self._check_home()
        return self._own

    def _check_home(self):
        if self._pid != os.getpid() and not self._over:
            raise EOFError(f"process {self._pid} alone has what this worker inherited")

    def _as_shared(self):
        with self._lock:
            if self._shared is None:
                self._check_home()
                self._shared = self._share()
            return self._shared

    def __str__(self):
        return repr(self._own)


@managed("AsyncResult")
class _ArenaAsyncResult(_OfPool, _BaseProxy):
    _exposed_ = ("get", "ready", "successful", "wait")
    _inside = ()
    _keeps_own = True

    def ready(self):
        return self._now().ready()

    def successful(self):
        return self._now().successful()

    def wait(self, timeout=None):
        own = self._now()
        _until(self._ends, own.wait, timeout)
        if self._ends[0].is_set() and not (own.ready() and own.successful()):
            raise EOFError

    def get(self, timeout=None):
        return _until(self._ends, self._now().get, timeout)

    def _is_over(self):
        return self._own.ready()

    def _share(self):
        if isinstance(self._own, (SharedResult, PiecesResult)):
            return self._own
        reply = Reply()
        self._pool._host.supervisor.publish(self._own, reply)
        return SharedResult(reply, self._pool._link)


@managed("Iterator", _stdlib.IteratorProxy)
class _ArenaIterator(_OfPool, _stdlib.IteratorProxy):
    _exposed_ = _stdlib.IteratorProxy._exposed_
    _inside = ("next",)
    _keeps_own = False
    _flat = False

    def next(self, timeout=None):
        if self._over:
            raise StopIteration
        try:
            return _until(self._ends, self._now().next, timeout)
        except StopIteration:
            self._over = True
            raise

    def __next__(self, timeout=None):
        return self.next(timeout)

    # A pool's iterator with chunks of more than one item is a generator.

    def send(self, *args):
        self._only_generators("send")
        return self.next()

    def throw(self, *args):
        self._only_generators("throw")
        self._over = True
        raise args[0]

    def close(self, *args):
        self._only_generators("close")
        self._over = True

    def _only_generators(self, name):
        if not self._flat:
            raise _stdlib.RemoteError(f"AttributeError: 'IMapIterator' object has no attribute {name!r}\n")

    def _is_over(self):
        return self._over

    def _share(self):
        return Channel.of(self._own, self._pool._link)


def _share_all():
    """What a child that is forked now has of the results that are not there yet is to be as good as what its parent has."""
    if forking.workers:
        return
    for proxy in list(_shareable):
        if proxy._pid == os.getpid() and proxy._shared is None and not proxy._over:
            proxy._over = proxy._is_over()
            if not proxy._over:
                proxy._as_shared()


os.register_at_fork(before=_share_all)
