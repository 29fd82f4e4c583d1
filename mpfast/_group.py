"""A group of processes that runs as one: it ends as a whole, with the error of whichever failed first.

Members report to one queue in shared memory: the exception that ended them, and their log records.  What is in it survives
its sender's death, so a member that is killed loses nothing that it had reported.  No thread serves it: the parent reads it
whenever it is inside a method of the group, and waits on it beside the members' sentinels.

States of a member: running -> ended (its process is gone, and what it had reported is read).  The group is stopping once a
member has failed, stop() was called, the block was left by an exception, or a signal has arrived; `stopping` is then set, and
how members end from there on is no failure any more.
"""
import faulthandler
import heapq
import logging
import logging.handlers
import os
import pickle
import signal
import sys
import threading
import time
from multiprocessing.pool import ExceptionWithTraceback
from multiprocessing.reduction import ForkingPickler

from . import _errors, context as _context
from .connection import wait as _wait

_FAILED, _LOGGED = "failed", "logged"

#: Seconds for which a log record is held back, so that an earlier one of another process can overtake it.
_HOLD_BACK = 0.05

#: Seconds from one member's stack signal to the next one's, lest their lines be mixed.
_STACKS_APART = 0.01

#: What ends a member.
_ENDING = signal.SIGINT, signal.SIGTERM

_current = None


class ProcessGroup:
    """Several processes that start, fail and stop together.

        with mpfast.ProcessGroup() as group:
            group.start(produce, queue)
            group.start(consume, queue, verbose=True)

    Leaving the block waits for all members.  The first exception of a member stops the others and is raised in the parent,
    with the member's traceback as its cause; a member that was killed or ended with a status other than 0 raises
    :class:`WorkerLostError`.  An exception in the block stops the members, too.

    context: a start method's name, a context, or None for the default one.
    stop_timeout, terminate_timeout: seconds that members have to end by themselves once `stopping` is set, and then after
        SIGTERM, before they are sent SIGKILL.
    logs: whether log records of the members are handled by the parent's handlers, in the order of their time.  They are
        while the parent is inside a method of the group.
    stack_signal: upon which every process of the group prints the stacks of its threads to stderr; None: no such signal.

    SIGINT and SIGTERM that the parent gets inside the block are passed on to the members, if the block is in the main thread.
    """

    def __init__(self, context=None, *, stop_timeout=5.0, terminate_timeout=5.0, logs=True, stack_signal=signal.SIGUSR1):
        for name, seconds in (("stop_timeout", stop_timeout), ("terminate_timeout", terminate_timeout)):
            if not seconds >= 0:
                raise ValueError(f"{name} must not be negative")
        if context is None or isinstance(context, str):
            context = _context._default_context.get_context(context)
        self._context = context
        self._stop_timeout = stop_timeout
        self._terminate_timeout = terminate_timeout
        self._stack_signal = stack_signal
        self._logs = logs
        self._stopping = context.Event()
        self._reports = context.SimpleQueue()
        self._members = []
        self._running = {}  # sentinel -> process
        self._held_back = []  # heap of (time, number, record)
        self._numbers = 0
        self._failure = None
        self._pid = os.getpid()
        self._entered = False
        self._handlers = {}  # signal -> what handled it before the block
        self._prints_stacks = False
        self._signal = None  # SIGTERM, once it has arrived

    @staticmethod
    def current():
        """The group that this process is a member of, or None.  Has `stopping` only."""
        return _current

    @property
    def stopping(self):
        """An event that is set when members should end.  Can be passed to anyone."""
        return self._stopping

    @property
    def processes(self):
        """The processes that were started, in that order."""
        return tuple(self._members)

    def __repr__(self):
        return f"<{type(self).__name__} members={len(self._members)} running={len(self._running)}>"

    def __enter__(self):
        if self._entered:
            raise RuntimeError("a group can be entered once")
        self._entered = True
        if threading.current_thread() is threading.main_thread():
            try:
                self._take_signals()
            except BaseException:
                self._give_signals_back()
                raise
        return self

    def __exit__(self, kind, error, traceback):
        try:
            if kind is None:
                self._join_or_stop()
            else:
                self.stop()
        finally:
            self._give_signals_back()
            if self._signal is not None:
                os.kill(self._pid, self._signal)

    def _join_or_stop(self):
        try:
            self.join()
        except BaseException:  # a signal's, or that of a handler of log records
            self.stop()
            raise

    def start(self, target, /, *args, **kwargs):
        """Start a process that calls ``target(*args, **kwargs)``; returns it.

        RuntimeError if the group is stopping.  If a member has failed meanwhile, its exception is raised instead.
        """
        self._read_reports()
        self._raise_failure()
        if self._stopping.is_set():
            raise RuntimeError("the group is stopping")
        # A forked member forgets signals that arrive before it has become itself: they wait until it can be ended by them.
        # Nor does one get here between its start and the note of it.
        forks = self._context.get_start_method() == "fork"
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING if forks else ())
        try:
            process = self._context.Process(target=_run_member, args=(
                _Member(self._stopping, self._reports, self._levels(), self._stack_signal, mask), target, args, kwargs))
            process.start()
            self._members.append(process)
            self._running[process.sentinel] = process
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return process

    def join(self, timeout=None):
        """Wait until all members have ended.  Returns whether they have within *timeout* seconds (None: no limit).

        Raises the exception of the first member that failed, after the others were stopped.
        """
        self._wait_for_members(timeout)
        if self._failure is not None:
            self.stop()
            self._raise_failure()
        return not self._running

    def stop(self):
        """End all members: set `stopping`, wait, terminate, wait, kill.  Returns when the last one is gone."""
        self._stopping.set()
        self._wait_for_members(self._stop_timeout, until_failure=False)
        for end, seconds in (("terminate", self._terminate_timeout), ("kill", None)):
            for process in list(self._running.values()):
                getattr(process, end)()
            self._wait_for_members(seconds, until_failure=False)

    def _wait_for_members(self, timeout, until_failure=True):
        deadline = None if timeout is None else time.monotonic() + timeout
        while self._running and not (until_failure and self._failure is not None):
            left = None if deadline is None else max(0, deadline - time.monotonic())
            pause = _HOLD_BACK if self._held_back else left
            ready = _wait([*self._running, self._reports._reader], pause if left is None else min(pause, left))
            self._read_reports()
            for sentinel in ready:
                if sentinel in self._running:
                    self._end_member(sentinel)
            if left == 0:
                break
        if not self._running:
            self._read_reports()
            self._handle_records(float("inf"))

    def _end_member(self, sentinel):
        process = self._running.pop(sentinel)
        process.join()
        self._read_reports()  # what it said before it ended
        if process.exitcode != 0 and self._failure is None and not self._stopping.is_set():
            self._fail(_errors.WorkerLostError(process.pid, process.exitcode, process.name))

    def _read_reports(self):
        while not self._reports.empty():
            try:
                kind, content = self._reports.get()
            except Exception as why:
                kind, content = _FAILED, RuntimeError(f"what a member reported cannot be read: {why!r}")
            if kind == _LOGGED:
                heapq.heappush(self._held_back, (content.created, self._numbers, content))
                self._numbers += 1
            elif self._failure is None:
                self._fail(content)
        self._handle_records(time.time() - _HOLD_BACK)

    def _handle_records(self, until):
        while self._held_back and self._held_back[0][0] <= until:
            record = heapq.heappop(self._held_back)[2]
            logger = logging.getLogger(record.name)
            if logger.isEnabledFor(record.levelno):
                logger.handle(record)

    def _fail(self, error):
        self._failure = error
        self._stopping.set()

    def _raise_failure(self):
        if self._failure is not None:
            try:
                raise self._failure
            finally:
                self._failure = None

    def _levels(self):
        """The levels of all loggers, for the members'; None: they keep their own handlers."""
        if not self._logs:
            return None
        loggers = logging.root.manager.loggerDict
        return {"": logging.root.level, **{name: logger.level for name, logger in loggers.items()
                                           if isinstance(logger, logging.Logger) and logger.level}}

    def _take_signals(self):
        for number in (signal.SIGINT, signal.SIGTERM, self._stack_signal):
            if number is not None:
                self._handlers[number] = signal.signal(number, self._on_signal)
        if self._stack_signal is not None:
            faulthandler.register(self._stack_signal, file=2, all_threads=True, chain=True)
            self._prints_stacks = True

    def _give_signals_back(self):
        if self._prints_stacks:
            self._prints_stacks = False
            faulthandler.unregister(self._stack_signal)
        while self._handlers:
            number, handler = self._handlers.popitem()
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _on_signal(self, number, frame):
        if os.getpid() != self._pid:  # a member that has not come to its own handlers yet
            if number != self._stack_signal:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            return
        for process in list(self._running.values()):
            try:
                os.kill(process.pid, number)
            except ProcessLookupError:
                pass
            if number == self._stack_signal:
                time.sleep(_STACKS_APART)
        if number == self._stack_signal:
            former = self._handlers.get(number)
            if callable(former):
                former(number, frame)
            return
        self._stopping.set()
        former = self._handlers.get(number)
        if callable(former):
            former(number, frame)
        elif former is not signal.SIG_IGN:
            self._signal = number
            raise SystemExit(128 + number)


class _Member:
    """What a member knows of its group."""

    def __init__(self, stopping, reports, levels, stack_signal, mask):
        self.stopping = stopping
        self._reports = reports
        self._levels = levels
        self._stack_signal = stack_signal
        self._mask = mask

    def enter(self):
        global _current
        _current = self
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, _interrupt_once)
        if self._stack_signal is not None:
            faulthandler.unregister(self._stack_signal)  # a forked parent's, which goes on to its Python handler
            signal.signal(self._stack_signal, signal.SIG_IGN)
            faulthandler.register(self._stack_signal, file=2, all_threads=True)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        if self._levels is not None:
            self._send_records()

    def fail(self, error):
        """Report the exception *error*, and stop the others."""
        report = ExceptionWithTraceback(error, error.__traceback__)
        try:
            if (why := _unreadable(report)) is not None:
                raise why
            self._reports.put((_FAILED, report))
        except Exception as why:
            what = RuntimeError(f"{error!r} cannot be sent to the parent: {why!r}")
            self._reports.put((_FAILED, ExceptionWithTraceback(what, error.__traceback__)))
        self.stopping.set()

    def _send_records(self):
        forward = _Forward(self._reports)
        for name, level in self._levels.items():
            logging.getLogger(name).setLevel(level)
        for logger in [*logging.root.manager.loggerDict.values(), logging.root]:
            if isinstance(logger, logging.Logger) and (logger.handlers or logger is logging.root):
                # One that does not propagate would be silent without a handler of its own.
                logger.handlers[:] = [] if logger.propagate and logger is not logging.root else [forward]


def _unreadable(report):
    """What unpickling *report* raises, or None: many exceptions can be pickled and not made again from that."""
    try:
        data = ForkingPickler.dumps(report)
    except Exception:
        return None  # the queue may know another way
    try:
        pickle.loads(data)
    except Exception as why:
        return why
    return None


class _Forward(logging.handlers.QueueHandler):
    def enqueue(self, record):
        self.queue.put((_LOGGED, record))


def _interrupt_once(number, frame):
    # A terminal sends SIGINT to every process, and the parent passes its own on.
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _run_member(member, target, args, kwargs):
    try:
        member.enter()
        target(*args, **kwargs)
    except KeyboardInterrupt as error:
        if not member.stopping.is_set():
            member.fail(error)
        sys.exit(128 + signal.SIGINT)
    except SystemExit:
        raise
    except BaseException as error:
        member.fail(error)
        sys.exit(1)
