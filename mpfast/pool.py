"""A mirror of :mod:`multiprocessing.pool` whose Pool hands its tasks out through shared memory.

Differences from the standard library:

- A task whose worker dies raises :class:`mpfast.WorkerLostError` from its own ``get()``; the rest go on, and the worker is
  replaced.  Workers that cannot start end in that error, too.
- ``SystemExit``, ``KeyboardInterrupt`` and the like, raised in a task, are raised by its ``get()``.
- After ``terminate()`` results that are not there raise :class:`multiprocessing.ProcessError` instead of being waited for.
- A callback that raises is reported and nothing more.
- A pool can be an argument of its tasks and sent to other processes, where it is a handle that makes calls.
- ``imap(chunksize=n)`` returns an iterator with ``next(timeout)`` for every n, which goes on after an error.

A subclass that works with the inside of the standard library's pool gets that inside (``_pool_machinery``).
"""
from ._mirror import mirror
from ._native import native

mirror(__name__)

if native("Crew") is not None:
    import functools
    import multiprocessing.pool as _stdlib
    import operator
    import os
    import warnings
    from multiprocessing import util

    from . import _pool_machinery, _pool_results, context as _context
    from ._install import original
    from ._pool_compatible import Cache, TaskQueue
    from ._pool_input import CALLER_BYTES, CALLER_TASKS, SEQUENCES, Input, cannot_block, put_at_once
    from ._pool_supervisor import PoolSupervisor

    _StdlibPool = original(_stdlib.__name__, "Pool")
    _StdlibThreadPool = original(_stdlib.__name__, "ThreadPool")
    _ApplyResult = _pool_results.ApplyResult
    _MapResult = _pool_results.MapResult
    _RUN = _stdlib.RUN
    _MAPSTAR, _STARMAPSTAR = (getattr(_stdlib, name) if _pool_machinery.is_stock(name) else None
                              for name in ("mapstar", "starmapstar"))
    _PIECES = 64  # of a map, for each worker, when the program does not say
    _cpu_count = getattr(os, "process_cpu_count", os.cpu_count)


    def _default_chunksize(length, workers, maxtasks):
        """Items in a piece: so few that uneven ones are shared out evenly."""
        if maxtasks is not None:  # as the standard library does: each piece counts as a task
            return -(-length // (workers * 4)) or 1
        return length // (workers * _PIECES) or 1


    class Pool(_StdlibPool):
        """Worker processes that call functions.

        processes: how many workers, the number of usable CPUs by default; initializer, initargs: called in each worker first;
        maxtasksperchild: tasks after which a worker is replaced (a piece of a map is a task); context: a multiprocessing
        context; max_memory_per_child: resident bytes above which a worker is replaced, after the task that took them.
        """

        _supervisor = None  # None: by the standard library's methods
        _Supervisor = PoolSupervisor
        _exitpriority = 15

        def __init__(self, processes=None, initializer=None, initargs=(), maxtasksperchild=None, context=None, *,
                     max_memory_per_child=None):
            self._state = _stdlib.INIT
            context = context or _context._default_context.get_context()
            if _judge.wants_machinery(type(self)):
                if max_memory_per_child is not None:
                    raise ValueError("max_memory_per_child needs a pool that does not use the standard library's queues")
                _StdlibPool.__init__(self, processes, initializer, initargs, maxtasksperchild, context)
                return
            self._pool = []
            self._ctx = context
            self._maxtasksperchild = maxtasksperchild
            self._initializer = initializer
            self._initargs = initargs
            if processes is None:
                processes = _cpu_count() or 1
            if processes < 1:
                raise ValueError("Number of processes must be at least 1")
            if maxtasksperchild is not None:
                if not isinstance(maxtasksperchild, int) or maxtasksperchild <= 0:
                    raise ValueError("maxtasksperchild must be a positive int or None")
            if max_memory_per_child is not None:
                if not isinstance(max_memory_per_child, int) or max_memory_per_child <= 0:
                    raise ValueError("max_memory_per_child must be a positive number of bytes or None")
            if initializer is not None and not callable(initializer):
                raise TypeError("initializer must be a callable")
            self._start(processes, max_memory_per_child)

        def _start(self, processes, max_memory):
            supervisor = self._Supervisor(self._ctx, processes, type(self).Process, initializer=self._initializer,
                                          initargs=self._initargs, maxtasks=self._maxtasksperchild, max_memory=max_memory)
            self._pool = supervisor.workers
            self._cache = Cache(supervisor)
            self._taskqueue = TaskQueue(supervisor, self._cache)
            self._crew = supervisor.crew
            # Before there are workers: behind a fork each page that is written to is copied.
            self._terminate = util.Finalize(self, supervisor.finalize, exitpriority=self._exitpriority)
            try:
                supervisor.populate()
                supervisor.start_watching()
                self._supervisor = supervisor
                self._state = _RUN
            except BaseException:
                supervisor.terminate()
                self._terminate.cancel()
                raise

        def __del__(self, _warn=warnings.warn, RUN=_RUN):
            if self._supervisor is None:
                super().__del__()
            elif self._state == RUN:
                _warn(f"unclosed running multiprocessing pool {self!r}", ResourceWarning, source=self)

        @property
        def _processes(self):
            return self.__dict__["_processes"] if self._supervisor is None else self._supervisor.processes

        @_processes.setter
        def _processes(self, processes):
            if self._supervisor is None:
                self.__dict__["_processes"] = processes
            else:
                self._supervisor.processes = processes

        def resize(self, processes):
            """Have *processes* workers from now on.  Those that are too many leave after their present task.

            ValueError: less than one, or more than the pool can have, which are 62 more than it was made with.
            """
            processes = operator.index(processes)
            if processes < 1:
                raise ValueError("Number of processes must be at least 1")
            self._check_running()
            self._native_only("resize").resize(processes)

        def _native_only(self, what):
            if self._supervisor is None:
                raise ValueError(f"{what} needs a pool that does not use the standard library's queues")
            return self._supervisor

        def _repopulate_pool(self):
            if self._supervisor is None:
                return super()._repopulate_pool()
            self._supervisor.populate()

        def __reduce__(self):
            if self._supervisor is None or self._state != _RUN:
                return super().__reduce__()
            return self._supervisor.open_desk().handle()

        # ---- single calls

        def apply(self, func, args=(), kwds={}, *, timeout=None):
            """Returns ``func(*args, **kwds)``, called by a worker; *timeout* as for apply_async."""
            if timeout is None:
                return self.apply_async(func, args, kwds).get()
            return self.apply_async(func, args, kwds, timeout=timeout).get()

        def apply_async(self, func, args=(), kwds={}, callback=None, error_callback=None, *, timeout=None):
            """Have a worker call ``func(*args, **kwds)``.  Returns an AsyncResult.

            timeout: seconds that the call may take; after that its worker is killed, and the result is a TimeoutError.
            """
            supervisor = self._supervisor
            if supervisor is None or _stdlib.ApplyResult is not _pool_results.StdlibApplyResult:
                if timeout is not None:
                    self._native_only("timeout")
                return super().apply_async(func, args, kwds, callback, error_callback)
            if self._state != _RUN:
                raise ValueError("Pool not running")
            if timeout is not None:
                _check_timeout("timeout", timeout)
            result = _ApplyResult()
            result.owner = self
            if callback or error_callback:
                result._set_callbacks(callback, error_callback, supervisor)
            try:
                self._crew.submit(func, args, kwds, result, timeout)
            except Exception as error:
                _fail(result, supervisor.failure or error)
            if supervisor.failure is not None or callback or error_callback:
                supervisor.put(result)
            if timeout is not None:
                supervisor.wake()
            return result

        # ---- maps

        def map(self, func, iterable, chunksize=None, *, task_timeout=None, progress=False):
            """Returns the list of ``func(item)`` for the items of *iterable*.

            chunksize: items that a worker takes at a time; small pieces by default.  task_timeout: seconds that the call for one
            item may take; after that its worker is killed, and map raises TimeoutError.  progress: show how far it is.
            """
            return self._map(func, iterable, _stdlib.mapstar, chunksize, task_timeout, progress)

        def starmap(self, func, iterable, chunksize=None, *, task_timeout=None, progress=False):
            """The same as map() with ``func(*item)``."""
            return self._map(func, iterable, _stdlib.starmapstar, chunksize, task_timeout, progress)

        def map_async(self, func, iterable, chunksize=None, callback=None, error_callback=None, *, task_timeout=None):
            """The same as map(), as an AsyncResult."""
            return self._map_async(func, iterable, _stdlib.mapstar, chunksize, callback, error_callback,
                                   **_given(task_timeout=task_timeout))

        def starmap_async(self, func, iterable, chunksize=None, callback=None, error_callback=None, *,
                          task_timeout=None):
            """The same as starmap(), as an AsyncResult."""
            return self._map_async(func, iterable, _stdlib.starmapstar, chunksize, callback, error_callback,
                                   **_given(task_timeout=task_timeout))

        def _map(self, func, iterable, mapper, chunksize, task_timeout, progress):
            if type(self)._map_async is not Pool._map_async:
                result = self._map_async(func, iterable, mapper, chunksize, **_given(task_timeout=task_timeout))
            else:
                result = self._map_async(func, iterable, mapper, chunksize, task_timeout=task_timeout, waits=not progress)
            return _show_progress(result) if progress else result.get()

        def _map_async(self, func, iterable, mapper, chunksize=None, callback=None, error_callback=None, *,
                       task_timeout=None, waits=False):
            """The one behind the maps.  waits: the caller will wait for the result at once."""
            supervisor = self._supervisor
            star = mapper is _STARMAPSTAR
            if supervisor is None or not (star or mapper is _MAPSTAR) or _stdlib.MapResult is not _pool_results.StdlibMapResult:
                if task_timeout is not None:
                    self._native_only("task_timeout")
                return super()._map_async(func, iterable, mapper, chunksize, callback, error_callback)
            if self._state != _RUN:
                raise ValueError("Pool not running")
            if task_timeout is not None:
                _check_timeout("task_timeout", task_timeout)
            if type(iterable) not in SEQUENCES and not hasattr(iterable, "__len__"):
                iterable = list(iterable)
            length = len(iterable)
            if chunksize is None:
                chunksize = _default_chunksize(length, supervisor.processes, self._maxtasksperchild)
            result = _MapResult()
            result._chunksize = chunksize
            result._length = length
            if length == 0 or chunksize <= 0:
                result.expect_list(0, 1)
                result.value.extend([None] * length)  # what the standard library makes of a chunksize that is none
                return result
            result.owner = self
            result.crew = self._crew
            result.expect_list(length, chunksize)
            if callback or error_callback:
                result._set_callbacks(callback, error_callback, supervisor)
            source = supervisor, star, func, iterable, chunksize, result, task_timeout
            if not put_at_once(*source, _fail):
                self._read(Input(*source, functools.partial(_fail, result)), iterable, waits)
            if task_timeout is not None:
                supervisor.wake()
            return result

        def _read(self, source, iterable, waits):
            if waits:
                source.read_all()
            elif not cannot_block(iterable) or source.read(CALLER_TASKS, CALLER_BYTES):
                source.read_in_background()

        def imap(self, func, iterable, chunksize=1, *, buffersize=None, task_timeout=None, progress=False):
            """Returns an iterator over ``func(item)`` for the items of *iterable*, in their order.

            chunksize: items that a worker takes at a time.  buffersize: how many items at most are read that were not given out
            yet (rounded up to chunks); they are read by whoever takes the results.  By default the input is read in the background
            as fast as it comes.  task_timeout, progress: as for map().
            """
            return self._imap(func, iterable, chunksize, True, "imap", buffersize, task_timeout, progress)

        def imap_unordered(self, func, iterable, chunksize=1, *, buffersize=None, task_timeout=None, progress=False):
            """The same as imap(), in the order in which the results come."""
            return self._imap(func, iterable, chunksize, False, "imap_unordered", buffersize, task_timeout, progress)

        def _imap(self, func, iterable, chunksize, ordered, name, buffersize, task_timeout, progress):
            supervisor = self._supervisor
            if supervisor is None or _is_imap_replaced():
                if buffersize is not None or task_timeout is not None or progress:
                    self._native_only("buffersize, task_timeout or progress")
                return getattr(super(), name)(func, iterable, chunksize)
            self._check_running()
            if chunksize < 1:
                form = "{0:n}" if ordered else "{0!r}"
                raise ValueError("Chunksize must be 1+, not " + form.format(chunksize))
            if buffersize is not None and (not isinstance(buffersize, int) or buffersize < 1):
                raise ValueError("buffersize must be a positive int or None")
            if task_timeout is not None:
                _check_timeout("task_timeout", task_timeout)
            result = _ITERATORS[ordered, buffersize is not None or progress]()
            result.ordered = ordered
            result.flat = chunksize > 1
            result.owner = self
            result.crew = self._crew
            source = Input(supervisor, False, func, iterable, chunksize, result, task_timeout,
                           result.end)
            bar = _bar(iterable) if progress else None
            if buffersize is not None:
                result._attend(bar, source, buffersize)
            else:
                if bar is not None:
                    result._attend(bar, None, 0)
                self._read(source, iterable, False)
            if task_timeout is not None:
                supervisor.wake()
            return result

        # ---- the end

        def close(self):
            """No more tasks are taken; the workers leave when those that were are done."""
            if self._supervisor is None:
                return super().close()
            util.debug("closing pool")
            if self._state == _RUN:
                self._state = _stdlib.CLOSE
                self._supervisor.close()

        def terminate(self):
            """End the workers at once.  Results that are not there raise multiprocessing.ProcessError."""
            util.debug("terminating pool")
            self._state = _stdlib.TERMINATE
            self._terminate()
            if self._supervisor is not None:
                self._supervisor.finish_terminating()  # a finalizer is called once

        def join(self):
            """Wait until the workers have ended; after close() or terminate()."""
            if self._supervisor is None:
                return super().join()
            util.debug("joining pool")
            if self._state == _RUN:
                raise ValueError("Pool is still running")
            if self._state not in (_stdlib.CLOSE, _stdlib.TERMINATE):
                raise ValueError("In unknown state")
            if self._state == _stdlib.TERMINATE:
                self._supervisor.finish_terminating()
            self._supervisor.join()


    def _check_timeout(name, seconds):
        if not isinstance(seconds, (int, float)) or not seconds > 0:
            raise ValueError(f"{name} must be a positive number of seconds or None")


    def _given(**options):
        return {name: value for name, value in options.items() if value is not None}


    def _is_imap_replaced():
        return (_stdlib.IMapIterator is not _pool_results.StdlibIMapIterator or
                _stdlib.IMapUnorderedIterator is not _pool_results.StdlibIMapUnorderedIterator or
                _stdlib.mapstar is not _MAPSTAR)


    def _fail(result, error):
        if result.background:
            result._resolve(False, error)
        else:
            result.finish(False, error)


    def _bar(iterable):
        from ._progress import bar
        return bar(len(iterable) if hasattr(iterable, "__len__") else None)


    def _show_progress(result):
        from ._progress import INTERVAL, bar
        shown = 0
        progress = bar(result._length)
        try:
            while not _pool_results._wait(result, INTERVAL):
                done = min(result._length, result.received * result._chunksize)
                progress.update(done - shown)
                shown = done
            if result.ok:
                progress.update(result._length - shown)
        finally:
            progress.close()
        return result.get()


    # (ordered, attended) -> class
    _ITERATORS = {
        (True, False): _pool_results.IMapIterator,
        (False, False): _pool_results.IMapUnorderedIterator,
        (True, True): _pool_results.AttendedIMapIterator,
        (False, True): _pool_results.AttendedIMapUnorderedIterator,
    }


    class ThreadPool(Pool, _StdlibThreadPool):
        """A Pool whose workers are threads."""

        def __init__(self, processes=None, initializer=None, initargs=()):
            Pool.__init__(self, processes, initializer, initargs)


    for _class in (Pool, ThreadPool):
        _class.__module__ = _stdlib.__name__
    _judge = _pool_machinery.Judge(Pool)
