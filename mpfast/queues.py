"""A mirror of :mod:`multiprocessing.queues` whose queues go through shared memory.

Differences from the standard library:

- ``put()`` pickles: what cannot be pickled raises there (unless a subclass overrides ``_on_queue_feeder_error``, which is
  called instead).  When it returns, the item is in shared memory; it survives the process that put it.
- No thread, no descriptor; ``close()`` and ``join_thread()`` have nothing to wait for.
- ``put_many()`` and ``get_many()`` move many items for little more than the cost of one.
- A queue can be pickled at any time: sent through another queue, as an argument of a pool's task.
"""
from ._mirror import mirror
from ._native import native

mirror(__name__)

if native("Queue") is not None:
    from . import _core
    from ._install import original
    from ._publish import publish

    _STDLIB = "multiprocessing.queues"
    _Empty = original(_STDLIB, "Empty")
    _StdlibQueue = original(_STDLIB, "Queue")
    _StdlibJoinableQueue = original(_STDLIB, "JoinableQueue")
    _StdlibSimpleQueue = original(_STDLIB, "SimpleQueue")


    _publish = publish(__name__, _STDLIB)


    class _Reader:
        """What ``_reader`` is: something to wait for, readable while the queue has an item."""

        __slots__ = ("_queue", "_open")
        readable = True
        writable = False

        def __init__(self, queue):
            self._queue = queue
            self._open = True

        def fileno(self):
            if not self._open:
                raise OSError("handle is closed")
            return self._queue._bell_fileno()

        _handle = property(fileno)

        @property
        def closed(self):
            return not self._open

        def poll(self, timeout=0.0):
            return self._queue._poll(timeout)

        def recv(self):
            if self._queue._is_drained:
                # The holder of the lock expects an item that poll() saw; another process may have taken it meanwhile.
                try:
                    return _core.Queue.get(self._queue, False)
                except _Empty:
                    return None
            return _core.Queue.get(self._queue)

        def recv_bytes(self, maxlength=None):
            from multiprocessing.reduction import ForkingPickler
            return bytes(ForkingPickler.dumps(self.recv()))

        def close(self):
            self._open = False


    class _Writer:
        """What ``_writer`` is: the ability of this process to put.  Readers see the end of file when no process has it."""

        __slots__ = ("_queue", "_open")
        readable = False
        writable = True

        def __init__(self, queue):
            self._queue = queue
            self._open = True

        @property
        def closed(self):
            return not self._open

        def send(self, obj):
            _core.Queue.put(self._queue, obj)

        def send_bytes(self, buf, offset=0, size=None):
            from multiprocessing.reduction import ForkingPickler
            view = memoryview(buf)[offset:]
            self.send(ForkingPickler.loads(view if size is None else view[:size]))

        def close(self):
            if self._open:
                self._open = False
                self._queue._close_writer()


    class _ReadLock:
        """What ``_rlock`` is.  Readers need no lock: it tells that this process empties the queue by hand."""

        def __init__(self, queue):
            self._queue = queue

        def acquire(self, block=True, timeout=None):
            self._queue._is_drained = True
            return True

        def release(self):
            self._queue._is_drained = False

        def __enter__(self):
            return self.acquire()

        def __exit__(self, *exc_info):
            self.release()


    class _Ends:
        """The two connections that programs look for in a queue, made when they are asked for."""

        _reader_end = _writer_end = None
        _is_drained = False

        @property
        def _rlock(self):
            return _ReadLock(self)

        @property
        def _reader(self):
            if self._reader_end is None:
                self._reader_end = _Reader(self)
            return self._reader_end

        @property
        def _writer(self):
            if self._writer_end is None:
                self._writer_end = _Writer(self)
            return self._writer_end


    @_publish
    class Queue(_Ends, _core.Queue, _StdlibQueue):
        """A queue of at most *maxsize* items (0: no bound) between processes."""

        def __init__(self, maxsize=0, *, ctx):
            super().__init__(maxsize, ctx=ctx)

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
            assert self._closed, f"Queue {self!r} not closed"

        def cancel_join_thread(self):
            """Does nothing: there is no thread, and what was put is not lost."""


    @_publish
    class JoinableQueue(Queue, _core.JoinableQueue, _StdlibJoinableQueue):
        """A queue that knows which of its items are finished: task_done() for each, join() for all."""


    @_publish
    class SimpleQueue(_Ends, _core.Queue, _StdlibSimpleQueue):
        """A queue without a bound, with get(), put() and empty()."""

        def __init__(self, *, ctx):
            super().__init__(0, ctx=ctx)

        def _encode_failed(self, error, obj):
            raise error

        def _raise_closed(self):
            raise OSError("handle is closed")
