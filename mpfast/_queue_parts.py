"""What programs look for inside a queue, for queues that have none of it: made when it is asked for.

The standard library's queue is a pipe with two connections, two locks, a semaphore and a buffer with its thread.  Code
outside of a queue's class may use the connections, take the locks and look at the rest.  A class that works with these parts in
its own methods gets queues that really have them, see ``_queue_machinery``.
"""
import collections
import os
import queue as queue_module
import threading
import weakref

from . import _core  # type: ignore


class Reader:
    """What ``_reader`` is: something to wait for, readable while the queue has an item."""

    __slots__ = ("_queue", "__weakref__")
    readable = True
    writable = False

    def __init__(self, queue):
        self._queue = queue

    def _check(self):
        if self.closed:
            raise OSError("handle is closed")

    def fileno(self):
        self._check()
        return self._queue._bell_fileno()

    @property
    def _handle(self):
        return self.fileno()

    @property
    def closed(self):
        return self._queue._reader_closed

    def _confirm_ready(self):
        """Whether there is something to read now that the descriptor is readable; :func:`connection.wait` asks."""
        return self._queue._poll(0.0)

    def poll(self, timeout=0.0):
        self._check()
        found = self._queue._poll(timeout)
        if self._queue._read_lock_held:
            self._queue._seen_under_lock = found
        return found

    def recv(self):
        self._check()
        if self._queue._seen_under_lock:
            # Who holds the lock relies on what poll() saw; another process, which needs no lock, may have taken it meanwhile.
            self._queue._seen_under_lock = False
            try:
                return _core.Queue.get(self._queue, False)
            except queue_module.Empty:
                return None
        return _core.Queue.get(self._queue)

    def recv_bytes(self, maxlength=None):
        from multiprocessing.reduction import ForkingPickler
        if maxlength is not None and maxlength < 0:
            raise ValueError("negative maxlength")
        data = bytes(ForkingPickler.dumps(self.recv()))
        if maxlength is not None and len(data) > maxlength:
            self.close()
            raise OSError("bad message length")
        return data

    def close(self):
        self._queue._close_reader()

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.close()

    def __reduce__(self):
        return getattr, (self._queue, "_reader")


class Writer:
    """What ``_writer`` is: the ability of this process to put.  Readers see the end of file when no process has it."""

    __slots__ = ("_queue", "__weakref__")
    readable = False
    writable = True

    def __init__(self, queue):
        self._queue = queue

    @property
    def closed(self):
        return self._queue._writer_closed

    def send(self, obj):
        if self.closed:
            raise OSError("handle is closed")
        _core.Queue.put(self._queue, obj)

    def send_bytes(self, buf, offset=0, size=None):
        from multiprocessing.reduction import ForkingPickler
        view = memoryview(buf)[offset:]
        self.send(ForkingPickler.loads(view if size is None else view[:size]))

    def close(self):
        self._queue._close_writer()

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.close()

    def __reduce__(self):
        return getattr, (self._queue, "_writer")


class Room:
    """What ``_sem`` is, to be looked at: as many permits as there are places in the queue."""

    __slots__ = ("_queue", "__weakref__")

    def __init__(self, queue):
        self._queue = queue

    def get_value(self):
        return max(0, self._queue._maxsize - self._queue.qsize())

    _get_value = get_value

    def _is_zero(self):
        return self._queue.full()

    @property
    def _semlock(self):
        return self


class Part:
    """An attribute that *make* makes of the queue at its first use; one that is assigned to an instance stays there."""

    def __init__(self, make):
        self._make = make

    def __set_name__(self, owner, name):
        self._name = name

    def __get__(self, queue, cls):
        if queue is None:
            return self
        part = queue.__dict__[self._name] = self._make(queue)
        return part


class View:
    """An attribute that leads back to its queue: the same object for as long as somebody has it, and no cycle."""

    def __init__(self, make):
        self._make = make

    def __set_name__(self, owner, name):
        self._kept = f"_view_of{name}"

    def __get__(self, queue, cls):
        if queue is None:
            return self
        kept = queue.__dict__.get(self._kept)
        view = kept() if kept is not None else None
        if view is None:
            view = self._make(queue)
            queue.__dict__[self._kept] = weakref.ref(view)
        return view


def _lock(queue):
    from multiprocessing.context import _default_context
    from .synchronize import Lock
    return Lock(ctx=_default_context)


class ReadLock:
    """What ``_rlock`` is: a lock between those who take it.  ``get()`` needs none and does not wait for it."""

    def __init__(self, queue):
        self._queue = queue
        self._lock = _lock(queue)

    def acquire(self, block=True, timeout=None):
        taken = self._lock.acquire(block, timeout)
        if taken:
            self._queue._read_lock_held = True
        return taken

    def release(self):
        self._queue._read_lock_held = self._queue._seen_under_lock = False
        self._lock.release()

    def __enter__(self):
        return self.acquire()

    def __exit__(self, *exc_info):
        self.release()


class EndParts:
    """The parts of every queue."""

    _read_lock_held = _seen_under_lock = False
    _reader = View(Reader)
    _writer = View(Writer)
    _rlock = Part(ReadLock)
    _wlock = Part(_lock)


class Parts(EndParts):
    """The parts of a queue that has a buffer in the standard library."""

    _ignore_epipe = False
    _thread = _jointhread = _close = None
    _joincancelled = False
    _opid = Part(lambda queue: os.getpid())
    _sem = View(Room)
    _buffer = Part(lambda queue: collections.deque())
    _notempty = Part(lambda queue: threading.Condition(threading.Lock()))

    def _send_bytes(self, *args, **kwargs):
        self._writer.send_bytes(*args, **kwargs)

    def _recv_bytes(self, *args, **kwargs):
        return self._reader.recv_bytes(*args, **kwargs)

    def _after_fork(self):
        """Nothing is to be done: all that a queue has is in shared memory."""


class UnfinishedTasks:
    """What ``_unfinished_tasks`` of a JoinableQueue is, to be looked at."""

    __slots__ = ("_queue", "__weakref__")

    def __init__(self, queue):
        self._queue = queue

    def get_value(self):
        return self._queue._unfinished()

    _get_value = get_value

    def _is_zero(self):
        return self._queue._unfinished() == 0

    @property
    def _semlock(self):
        return self
