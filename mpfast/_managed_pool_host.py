"""A managed pool in its own process, the one that asked the manager for it, and what it does for proxies in others.

It lives as long as anybody has a proxy of it, or waits for something of it, but no longer than its manager: the server of the
standard library's manager, which has the pool there, does the same.
"""
import contextlib
import multiprocessing.pool as _stdlib
import os
import pickle
import threading
import weakref
from multiprocessing.process import current_process

from . import _core
from ._crew import LOOK_AGAIN
from ._managed_pool_handle import Link, Reply
from ._pool_handle import Desk, identity
from ._pool_supervisor import PoolSupervisor
from .pool import Pool

_hosts: dict = {}  # place of its link -> Host


class _Forking(threading.local):
    """Whether this thread forks workers, which have no use for what this process waits for."""

    workers = False

    @contextlib.contextmanager
    def of_workers(self):
        self.workers = True
        try:
            yield
        finally:
            self.workers = False


forking = _Forking()


@contextlib.contextmanager
def _children_allowed():
    """Lets a daemonic process have children meanwhile: workers end with it, whatever becomes of it."""
    config = current_process()._config
    daemonic = config.get("daemon")
    if daemonic:
        config["daemon"] = False
    try:
        yield
    finally:
        if daemonic:
            config["daemon"] = True


def _put(reply, outcome):
    try:
        reply.put(outcome)
    except Exception as error:
        reply.put((False, _stdlib.MaybeEncodingError(error, outcome[1])))


class ManagedDesk(Desk):
    """The desk that also takes what else a proxy can ask for."""

    def _serve(self, reply, payload, method=None):
        if method is None:
            return super()._serve(reply, payload)
        if reply is None:
            return
        try:
            method = getattr(self._supervisor.pool(), method)
            if payload is None:
                reply.put((True, method()))
            else:
                args, options = pickle.loads(payload)
                self._supervisor.publish(method(*args, **options), reply)
        except Exception as error:
            _put(reply, (False, error))


class ManagedSupervisor(PoolSupervisor):
    """The supervisor of a managed pool."""

    thread_name = "mpfast-managed-pool"

    def __init__(self, context, processes, make, **settings):
        super().__init__(context, processes, make, **settings)
        self.over = _core.Event(ctx=context)
        self.pool = self.host = lambda: None  # references to them, when they are there
        self._published = []  # (receiver, Reply) of results that others look at, too

    def make_desk(self):
        return ManagedDesk(self)

    def make_process(self, slot, stacks):
        process = super().make_process(slot, stacks)
        process._of_managed_pool = True
        return process

    def launch(self, processes, started):
        with _children_allowed(), forking.of_workers():
            super().launch(processes, started)

    def start_watching(self):
        self._desk = self.make_desk()
        self.bells.append(self._desk.descriptor)
        super().start_watching()

    # ---- results that others look at, too

    def publish(self, receiver, reply):
        """Have the outcome of *receiver* put into *reply* when it is there."""
        if not receiver.ready() and receiver not in self.heard:
            receiver._be_heard(self)
        self._published.append((receiver, reply))
        if receiver.ready() or self.over.is_set():
            self._put_published()
        else:
            self.put(receiver)
            self.wake()

    def _put_published(self):
        left = []
        published, self._published = self._published, []
        for receiver, reply in published:
            if receiver.ready():
                self.heard.discard(receiver)
                _put(reply, (receiver.ok, receiver.value))
            else:
                left.append((receiver, reply))
        self._published += left

    def wants_results(self):
        host = self.host()
        return bool(self._published) or (host is not None and host.left) or super().wants_results()

    def _run_later(self):
        super()._run_later()
        if self._published:
            self._put_published()
        host = self.host()
        if host is not None and host.left:
            self.listen()  # what nobody takes is to be done all the same
            host.look()

    def _milliseconds(self):
        milliseconds = super()._milliseconds()
        host = self.host()
        if host is None or not host.left:
            return milliseconds
        return int(LOOK_AGAIN * 1000) if milliseconds is None else min(milliseconds, int(LOOK_AGAIN * 1000))

    def is_idle(self):
        """Whether nothing is to be done, as far as results were collected."""
        return not self._has_work() and not self._published

    # ---- the end

    def close(self):
        super().close()
        if self._desk is not None and self._owner_pid == os.getpid():
            self._desk.closed.set()

    def terminate(self, error=None):
        super().terminate(error)
        if self._owner_pid == os.getpid():
            self._terminated = False  # an interrupt may come before it is told
            self._finish()
            self._terminated = True

    def _watch(self):
        try:
            super()._watch()
        finally:
            if not self._by_process:  # else who terminates it just now sees the workers off
                self._finish()

    def _finish(self):
        if self._desk is not None:
            self._desk.close()
        self._put_published()
        host = self.host()
        if host is not None:
            host.link.last.put((True, repr(host.pool)))
            host.forget()
        _core.end(self.over)


class _ManagedPool(Pool):
    _Supervisor = ManagedSupervisor
    _state = _stdlib.INIT  # of one whose __init__() was called with wrong arguments


_ManagedPool.__name__ = _ManagedPool.__qualname__ = "Pool"
_ManagedPool.__module__ = _stdlib.__name__


class Host:
    """What keeps a managed pool alive in its process.

    Attributes: pool; supervisor; link; pid; left: nobody in this process has a proxy of it any more.
    """

    left = False

    def __init__(self, manager, args, kwargs):
        self.pid = os.getpid()
        self.pool = pool = _ManagedPool.__new__(_ManagedPool)
        if manager._started_by == self.pid:
            pool._exitpriority = None  # its manager ends it, after having said so to those who wait
        pool.__init__(*args, **kwargs)
        self.supervisor = supervisor = pool._supervisor
        desk = supervisor.open_desk()
        self.link = Link(desk.requests, desk.closed, supervisor.over, manager._ended, _core.Event(ctx=pool._ctx), Reply(),
                         identity(), supervisor.processes)
        self._proxies = weakref.WeakSet()
        self._place = supervisor.over._offset
        _hosts[self._place] = self
        supervisor.pool = weakref.ref(pool)
        supervisor.host = weakref.ref(self)

    def add(self, proxy):
        """Take notice of a *proxy* in this process."""
        self._proxies.add(proxy)
        self.left = False
        weakref.finalize(proxy, self.look).atexit = False

    def look(self):
        """See whether there is anybody left; if not, end the pool."""
        if self.pid != os.getpid() or self._place not in _hosts:
            return
        # In this order: who unpickles a proxy here gives up the reference that came with it when it is added.
        alone = _core.references(self.link.lease) == 1
        if list(self._proxies):
            return
        if alone and self.supervisor.is_idle():
            self.end()
        elif not self.left:
            self.left = True
            self.supervisor.wake()

    def end(self):
        """End the pool at once."""
        self.forget()
        self.pool.terminate()

    def forget(self):
        """Let the pool go when the last proxy here does."""
        _hosts.pop(self._place, None)


def host_of(link):
    """The host of the pool that *link* leads to, if that is in this process; else None."""
    host = _hosts.get(link.over._offset)
    return host if host is not None and host.pid == os.getpid() == link.owner[0] else None


def end_all(ended):
    """End the pools here of the manager whose event is *ended*."""
    for host in list(_hosts.values()):
        if host.pid == os.getpid() and host.link.ended is ended:
            host.end()
