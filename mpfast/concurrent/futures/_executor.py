"""ProcessPoolExecutor on a crew: tasks and results in shared memory, nobody between the caller and the workers."""
import collections.abc
import concurrent.futures.process as module
import operator
import os
import threading
import traceback
import weakref
from concurrent.futures.process import BrokenProcessPool, _RemoteTraceback, _WorkItem
from typing import Any

from ... import _install, context
from ..._crew import SPARE_SLOTS
from ..._native import core
from ..._progress import show
from ..._queue_machinery import give
from . import _map
from ._future import Future
from ._machinery import Judge, makes_processes
from ._supervisor import EndOfProgram, ExecutorSupervisor

_Stdlib: Any = _install.original("concurrent.futures.process", "ProcessPoolExecutor")
_OPERATIONS = {"terminate": operator.methodcaller("terminate"), "kill": operator.methodcaller("kill")}


class _PendingItems(collections.abc.Mapping):
    """What ``executor._pending_work_items`` shows: number -> item with the ``future`` and the ``fn`` of a task."""

    def __init__(self, supervisor):
        self._crew = supervisor.crew if supervisor is not None else None

    def _items(self):
        receivers = self._crew.receivers() if self._crew is not None else ()
        return {receiver.ordinal: receiver for receiver in receivers if isinstance(receiver, Future)}

    def __len__(self):
        if self._crew is None:
            return 0
        self._crew.collect(None, 0)
        return self._crew.pending

    def __iter__(self):
        return iter(self._items())

    def __getitem__(self, number):
        future = self._items()[number]
        return _WorkItem(future, future.func, (), {})


class _Line:
    """What ``executor._work_ids`` and ``executor._call_queue`` show: the tasks that no worker has taken."""

    def __init__(self, executor):
        self._executor = weakref.ref(executor)

    def qsize(self):
        supervisor = getattr(self._executor(), "_supervisor", None)
        return supervisor.crew.queued if supervisor is not None else 0

    def empty(self):
        return self.qsize() == 0

    def full(self):
        return False

    def close(self):
        pass

    def join_thread(self):
        pass

    def cancel_join_thread(self):
        pass


class ProcessPoolExecutor(_Stdlib):
    """Runs calls in a pool of processes."""

    def __init__(self, max_workers=None, mp_context=None, initializer=None, initargs=(), *, max_tasks_per_child=None,
                 on_worker_death=None):
        """Makes an executor; it starts processes when they are needed.

        max_workers: int, the most processes there will be (by default the number of CPUs); mp_context: a context of
        multiprocessing; initializer: called with *initargs* (a tuple) in each process first; max_tasks_per_child: int,
        tasks after which a process is replaced (not with the start method fork; "spawn" by default).

        on_worker_death says what the abrupt end of a process means: None, that every pending future fails and the
        executor cannot be used any more, as in the standard library; "raise", that the future of the task that the process
        ran fails, with BrokenProcessPool too; "retry", that this task is run again, up to three times in all.  The cause
        of the error tells pid, exit code or signal, and task.

        Raises ValueError and TypeError for arguments that are out of range.
        """
        if mp_context is None:
            mp_context = context._default_context.get_context("spawn" if max_tasks_per_child is not None else None)
        if _judge.wants_machinery(type(self)) or not makes_processes(mp_context):
            self._become_stdlib(max_workers, mp_context, initializer, initargs, max_tasks_per_child, on_worker_death)
            return
        if max_workers is None:
            max_workers = getattr(os, "process_cpu_count", os.cpu_count)() or 1
        elif max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        operator.index(max_workers)  # TypeError, as in the standard library
        forks = mp_context.get_start_method(allow_none=False) == "fork"
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        _check_max_tasks(max_tasks_per_child, forks)
        if on_worker_death not in (None, "raise", "retry"):
            raise ValueError("on_worker_death must be None, 'raise' or 'retry'")
        self._max_workers = max_workers
        self._mp_context = mp_context
        self._safe_to_dynamically_spawn_children = not forks
        self._initializer = initializer
        self._initargs = initargs
        self._max_tasks_per_child = max_tasks_per_child
        self._on_worker_death = on_worker_death
        self._keep = on_worker_death == "retry"
        self._supervisor = None
        self._executor_manager_thread = None
        self._executor_manager_thread_wakeup = None
        self._processes = {}
        self._shutdown_thread = False
        self._shutdown_lock = threading.RLock()
        self._broken = False
        self._queue_count = 0
        self._unsent = 0  # tasks that could not be sent: the standard library starts a process for each of them too
        self._cancel_pending_futures = False
        self._force_shutting_down = False
        self._call_queue = self._work_ids = _Line(self)

    def _become_stdlib(self, max_workers, mp_context, initializer, initargs, max_tasks_per_child, on_worker_death):
        if on_worker_death is not None:
            raise ValueError("on_worker_death is not to be had where the standard library's steps are replaced")
        options = {} if max_tasks_per_child is None else {"max_tasks_per_child": max_tasks_per_child}
        if not issubclass(type(self), _judge.by_stdlib(ProcessPoolExecutor)):
            self.__class__ = _judge.by_stdlib(type(self))
        self._force_shutting_down = False
        _Stdlib.__init__(self, max_workers, mp_context, initializer, initargs, **options)

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if _judge.asks_for_machinery(cls):
            give(cls, ProcessPoolExecutor, _judge.by_stdlib(ProcessPoolExecutor))

    def __reduce__(self):
        raise TypeError(f"cannot pickle {type(self).__name__!r} object")

    # ---- tasks

    def submit(self, fn, /, *args, **kwargs):
        """Has ``fn(*args, **kwargs)`` called in a process.  Returns its :class:`concurrent.futures.Future`.

        What cannot be pickled is the error of the future.  Raises RuntimeError after shutdown(), BrokenProcessPool
        after the abrupt end of a process.
        """
        with self._shutdown_lock:
            supervisor = self._ready_for_tasks()
            future = Future(supervisor)
            try:
                supervisor.crew.submit(fn, args, kwargs, future, None, self._keep)
            except Exception as error:
                self._unsent += 1
                future.fail(_with_traceback(error))
            if self._broken:  # since a moment ago: nobody would fail this one any more
                raise BrokenProcessPool(self._broken)
            self._queue_count += 1
            if supervisor.processes < self._max_workers or self._executor_manager_thread is None:
                self._start_for(supervisor, future)
            if not supervisor.watching:
                supervisor.watch()
            return future

    def map(self, fn, *iterables, timeout=None, chunksize=1, buffersize=None, progress=False):
        """Returns an iterator over ``fn(*arguments)`` for each of ``zip(*iterables)``, in order, computed in processes.

        timeout: seconds from now until the last result has to be there, or the iterator raises TimeoutError; chunksize: int,
        arguments that are sent together; buffersize: int, chunks that are sent ahead of what the iterator has given out (by
        default all are sent at once); progress: whether to show a bar on stderr.

        The iterator raises what a call raised in its place, and ends there.  What has not begun by then is cancelled.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None and not isinstance(buffersize, int):
            raise TypeError("buffersize must be an integer or None")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        total = min(map(operator.length_hint, iterables), default=0) or None if progress else None
        if _has_own_submit(self):
            results = _map.by_submitting(self, fn, iterables, timeout, chunksize, buffersize)
        else:
            results = self._map(fn, iterables, timeout, chunksize, buffersize)
        return show(results, total) if progress else results

    def _map(self, fn, iterables, timeout, chunksize, buffersize):
        deadline = _map.deadline_of(timeout)
        results = _map.MapResults()
        results.flat = buffersize is None
        star = len(iterables) != 1
        arguments = zip(*iterables) if star else iter(iterables[0])

        def put(limit):
            """Submit up to *limit* pieces (0: all).  Returns whether those were the last, and how many."""
            sent = results.sent
            try:
                _, exhausted = supervisor.crew.submit_pieces(star, fn, arguments, chunksize, results, sent, limit, None,
                                                             keep)
            except ValueError:
                self._ready_for_tasks()  # the crew takes no more: says why
                raise
            return exhausted, results.sent - sent

        keep = self._keep
        with self._shutdown_lock:
            supervisor = self._ready_for_tasks()
            supervisor.feeding += 1  # a shutdown by another thread waits for the rest of the input
        try:
            exhausted = self._put_first(supervisor, results, put, buffersize)
        except Exception as error:
            if results.sent or not _cannot_be_sent(fn):
                raise
            return _map.fail_at_once(_with_traceback(error))
        finally:
            with self._shutdown_lock:
                supervisor.feeding -= 1
            if self._shutdown_thread:
                supervisor.wake()
        if buffersize is None:
            return _map.iterate(supervisor.crew, results, deadline)
        feed = _Feeder(self, supervisor, results, put, exhausted)
        return _map.iterate_feeding(supervisor.crew, results, deadline, feed, chunksize)

    def _put_first(self, supervisor, results, put, limit):
        """Submit *limit* pieces (None: all), and start the workers for them.  Returns whether those were the last."""
        exhausted, left = False, limit
        while not exhausted and left != 0:
            growing = supervisor.processes < self._max_workers or self._executor_manager_thread is None
            exhausted, count = put(1 if growing else left or 0)
            left = None if left is None else left - count
            if count:
                with self._shutdown_lock:
                    self._queue_count += count
                    self._start_for(supervisor, results)
                    if not supervisor.watching:
                        supervisor.watch()
            if not growing and limit is None:
                break
        return exhausted

    def _ready_for_tasks(self):
        """Returns the supervisor; raises when there are to be no more tasks.  Under the lock."""
        if self._broken:
            raise BrokenProcessPool(self._broken)
        if self._shutdown_thread:
            raise RuntimeError("cannot schedule new futures after shutdown")
        if module._global_shutdown:
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")
        return self._supervisor or self._make_supervisor()

    def _make_supervisor(self):
        supervisor = ExecutorSupervisor(self, self._mp_context, self._initializer, self._initargs,
                                        self._max_tasks_per_child, self._on_worker_death,
                                        self._max_workers + SPARE_SLOTS)
        supervisor.by_pid = self._processes
        self._supervisor = supervisor
        return supervisor

    # ---- workers, under the lock

    def _start_for(self, supervisor, receiver):
        """Start the workers that are needed for what *receiver* has submitted."""
        try:
            if self._safe_to_dynamically_spawn_children:
                self._adjust_process_count()
            self._start_executor_manager_thread()
        except BaseException:
            if self._executor_manager_thread is None:
                self._start_over(supervisor)
            elif not self._processes:  # nobody would ever run it
                self._cancel(supervisor.crew, receiver)
            raise

    def _start_over(self, supervisor):
        """Be as before the first task, of which nobody has the future: there is no thread that would ever end the workers."""
        if self._supervisor is supervisor:
            self._supervisor, self._processes = None, {}
        supervisor.terminate_for_another()

    def _start_executor_manager_thread(self):
        """Start the thread, and where workers are forked all of them before it."""
        if self._executor_manager_thread is None:
            supervisor = self._supervisor or self._make_supervisor()
            if not self._safe_to_dynamically_spawn_children:
                self._launch_processes()
            supervisor.start_thread_once(self._note_thread)

    def _note_thread(self, thread):
        self._executor_manager_thread = thread
        self._executor_manager_thread_wakeup = module._threads_wakeups[thread] = EndOfProgram(self._supervisor)

    def _adjust_process_count(self):
        """Start one more worker unless there is one for each task that is not done."""
        supervisor = self._supervisor or self._make_supervisor()
        supervisor.crew.collect(None, 0)
        if supervisor.crew.pending + self._unsent > supervisor.processes:
            self._spawn_process()

    def _launch_processes(self):
        """Start all workers."""
        self._start_up_to(self._max_workers)

    def _spawn_process(self):
        """Start one more worker."""
        self._start_up_to(min(self._max_workers, len(self._processes) + 1))

    def _start_up_to(self, count):
        supervisor = self._supervisor or self._make_supervisor()
        supervisor.processes = max(count, supervisor.processes)
        try:
            supervisor.populate()
        except BaseException:
            supervisor.processes = len(self._processes)
            raise

    # ---- the end

    def shutdown(self, wait=True, *, cancel_futures=False):
        """No more tasks; the processes end when all are done.

        wait: whether to return only then; cancel_futures: whether to cancel the tasks that no process has taken.
        """
        with self._shutdown_lock:
            self._cancel_pending_futures = cancel_futures
            self._shutdown_thread = True
        supervisor, thread = self._supervisor, self._executor_manager_thread
        if supervisor is not None:
            if cancel_futures:
                self._cancel_what_has_not_begun(supervisor.crew)
            supervisor.close()
        if thread is not None and wait:
            thread.join()
            self._supervisor = None
        self._executor_manager_thread = self._executor_manager_thread_wakeup = None
        self._call_queue = None
        self._processes = None

    def _cancel_what_has_not_begun(self, crew):
        """Cancel the tasks in line, but for those that the idle workers are about to take."""
        futures = [receiver for receiver in crew.receivers() if isinstance(receiver, Future) and not receiver.running()]
        spared = set(futures[:max(0, len(self._processes or ()) - (crew.pending - crew.queued))])
        for future in futures:
            if future not in spared:
                future.cancel()
        for receiver in crew.receivers():
            if not isinstance(receiver, Future):
                self._cancel(crew, receiver)

    @staticmethod
    def _cancel(crew, receiver):
        for _, receiver, index in crew.cancel_all(receiver):
            receiver.taken_out_of_line(index)

    def terminate_workers(self):
        """Ends the processes with SIGTERM; what is not done fails or is cancelled, and there are to be no more tasks."""
        return self._force_shutdown(operation="terminate")

    def kill_workers(self):
        """Ends the processes with SIGKILL; what is not done fails or is cancelled, and there are to be no more tasks."""
        return self._force_shutdown(operation="kill")

    def _force_shutdown(self, operation):
        if operation not in _OPERATIONS:
            raise ValueError(f"Unsupported operation: {operation!r}")
        with self._shutdown_lock:
            self._force_shutting_down = True
            processes = dict(self._processes or {})
        self.shutdown(wait=False, cancel_futures=True)
        for process in processes.values():
            try:
                if process.is_alive():
                    _OPERATIONS[operation](process)
            except (ValueError, ProcessLookupError):
                pass  # it has ended, or been closed

    # ---- what programs look at

    @property
    def _pending_work_items(self):
        return _PendingItems(self._supervisor)


class _Feeder:
    """Submits one more piece of a map whenever it is called."""

    def __init__(self, executor, supervisor, results, put, exhausted):
        self._executor = weakref.ref(executor)
        self._supervisor = supervisor
        self._results = results
        self._put = put
        self._exhausted = exhausted

    def __call__(self):
        if self._exhausted:
            return
        executor = self._executor()
        if executor is None:
            self._exhausted = True
            self._results.set_length(self._results.sent)
            return
        with executor._shutdown_lock:
            executor._ready_for_tasks()
        self._exhausted = executor._put_first(self._supervisor, self._results, self._put, 1)


def _check_max_tasks(max_tasks_per_child, forks):
    if max_tasks_per_child is None:
        return
    if not isinstance(max_tasks_per_child, int):
        raise TypeError("max_tasks_per_child must be an integer")
    if max_tasks_per_child <= 0:
        raise ValueError("max_tasks_per_child must be >= 1")
    if forks:
        raise ValueError("max_tasks_per_child is incompatible with the 'fork' multiprocessing start method;"
                         " supply a different mp_context.")


def _has_own_submit(executor):
    return type(executor).submit is not ProcessPoolExecutor.submit or "submit" in vars(executor)


def _with_traceback(error):
    """*error*, which encoding a task raised, with its traceback as the cause, as if it came from elsewhere."""
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    error.__cause__ = _RemoteTraceback(f'\n"""\n{text}"""')
    return error.with_traceback(None)


def _cannot_be_sent(fn):
    try:
        core._encode(fn)
    except Exception:
        return True
    return False


ProcessPoolExecutor.__module__ = _Stdlib.__module__
_judge = Judge(ProcessPoolExecutor, _Stdlib)
