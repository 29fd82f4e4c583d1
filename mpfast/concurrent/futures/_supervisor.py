"""What an executor does about its workers: when they start, and what the end of one means for its futures."""
import os
import sys
import threading
import time
import traceback
import weakref
from concurrent.futures.process import BrokenProcessPool, _RemoteTraceback

from ..._crew import CLOSE, Supervisor
from ..._errors import WorkerLostError
from ..._native import core
from ._future import SharedCondition
from ._machinery import replaced_starter
from ._worker import work

UNUSABLE = "A child process terminated abruptly, the process pool is not usable anymore"
ABRUPTLY = "A process in the process pool was terminated abruptly while the future was running or pending."
NOT_STARTED = "A worker process could not be started in the place of one that has ended, and none is left for the rest."
THIS_TASK = "The process that ran this task was terminated abruptly; the others go on."
GRACE = 0.1  # seconds after which results that nobody waits for are fetched
ATTEMPTS = 3  # workers that a task may cost before it is not tried again


class LostWorker(_RemoteTraceback, WorkerLostError):
    """Why a worker was lost, as the cause of a BrokenProcessPool."""

    __init__ = WorkerLostError.__init__
    __str__ = WorkerLostError.__str__

    @property
    def tb(self):
        return f"\n'''\nProcess {self.pid} terminated abruptly with exit code {self.exitcode}\n{self}'''"


def broken(message, cause):
    """A BrokenProcessPool error.  Each future has one of its own, for raising an error adds to its traceback."""
    error = BrokenProcessPool(message)
    error.__cause__ = cause
    return error


def _as_remote(error):
    """*error* with its traceback, as the cause of a BrokenProcessPool."""
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    return _RemoteTraceback(f"\n'''\n{text}'''")


class EndOfProgram:
    """Tells *supervisor*, which it does not keep alive, that the interpreter ends.

    The standard library calls ``wakeup()`` of what is registered with it for a thread, and waits for the thread.
    """

    def __init__(self, supervisor):
        self._supervisor = weakref.ref(supervisor)

    def wakeup(self):
        supervisor = self._supervisor()
        if supervisor is not None:
            supervisor.close()


class _ContextOf:
    """What a program's own ``concurrent.futures.process._spawn_worker`` gets as the context: its Process is *process*."""

    def __init__(self, process, context):
        self._process = process
        self._context = context

    def Process(self, *args, **kwargs):
        return self._process

    def __getattr__(self, name):
        return getattr(self._context, name)


class ExecutorSupervisor(Supervisor):
    """The workers of *executor*, which it does not keep alive.

    on_worker_death: None (every future fails, as in the standard library), "raise" (the future of the lost task fails) or
    "retry" (the task is run again).

    Attributes: condition, the lock of all futures; by_pid, the worker processes by their numbers.
    """

    thread_name = "ExecutorManagerThread"

    def __init__(self, executor, context, initializer, initargs, maxtasks, on_worker_death, max_workers):
        self.condition = SharedCondition()
        self.by_pid = {}
        self.on_worker_death = on_worker_death
        self._executor = weakref.ref(executor, self._executor_is_gone)
        self._ended = False  # whether the thread has
        self._attended = 0  # futures that somebody wants to hear of
        self.watching = False  # whether the thread looks after tasks that nobody may ever ask for
        self._look_at = None  # when it fetches what has come by then; None: it fetches everything as it comes
        self._attempts = {}  # (receiver, index) -> workers that this task has cost
        super().__init__(context, 0, initializer=initializer, initargs=initargs, maxtasks=maxtasks, slots=max_workers)

    def make_crew(self, slots):
        return core.Crew(slots, self._undecodable_result)

    def make_process(self, slot, stacks):
        return self.context.Process(target=work, args=self.worker_arguments(slot, stacks),
                                    kwargs={"dies_of_undecodable": self.on_worker_death is None})

    def launch(self, processes, started):
        starter = replaced_starter()
        if starter is None:
            super().launch(processes, started)
            return
        for process in processes:
            own = _ContextOf(process, self.context)
            starter(own, None, None, self.initializer, self.initargs, self.maxtasks, self.by_pid)
            if process.pid is None:
                raise RuntimeError(f"{starter!r} did not start the process of its context")
            started.append(process)

    def none_can_start(self, error):
        self.give_up(broken(NOT_STARTED, _as_remote(error)))

    def worker_started(self, process):
        self.by_pid[process.pid] = process

    def start_thread_once(self, note):
        """Have the thread run, and *note* called with it if it does: also when an interrupt is raised, which may come later."""
        begins = threading.Lock()  # who has it decides whether the thread does anything
        thread = self._thread = threading.Thread(target=self._watch_unless, args=(begins,), name=self.thread_name, daemon=True)
        try:
            thread.start()
        except BaseException:
            if begins.acquire(False):
                self._thread = thread = None
            raise
        finally:
            if thread is not None:
                note(thread)

    def _watch_unless(self, taken):
        if taken.acquire(False):
            self._watch()

    def _watch(self):
        try:
            super()._watch()
        finally:
            self._ended = True
            self._run_later()
            self._thread = None  # the standard library's is gone when its executor is, without a garbage collection

    def on_thread(self):
        """Whether callbacks may be called here: on the thread, or anywhere once that has ended."""
        return self._ended or super().on_thread()

    def call_later(self, function, *arguments):
        super().call_later(function, *arguments)
        if self._ended:  # since the caller asked
            self._run_later()

    def _executor_is_gone(self, _, finalizing=sys.is_finalizing):
        if not finalizing():  # at the end of the program all is over, and the names of this module may be gone
            self.close()

    def close(self):
        if self._owner_pid == os.getpid():
            super().close()

    # ---- results that nobody asks for

    def watch(self):
        """Have the thread fetch what is not fetched by others: futures may be dropped, or looked at much later.

        Not at once, for most results are waited for, and then a second thread is but in the way.
        """
        self.watching = True
        self._look_at = time.monotonic() + GRACE
        self.wake()

    def _milliseconds(self):
        milliseconds = super()._milliseconds()
        if not self.watching or self._look_at is None:
            return milliseconds
        left = max(0, int((self._look_at - time.monotonic()) * 1000) + 1)
        return left if milliseconds is None else min(left, milliseconds)

    def _collect(self, ready):
        if self.watching and self._look_at is not None and time.monotonic() >= self._look_at:
            self._look_at = None
            self.listen()
        super()._collect(ready)
        if self.watching and self._look_at is None and not self.crew.pending:
            self.watching = False
            if self.crew.pending:  # since a moment ago, by who saw that we were watching
                self.watch()

    # ---- results that somebody wants to hear of; under the lock of the futures

    def attend(self):
        """One more."""
        self._attended += 1
        if not self.listening:
            self.listening = True
            self.crew.listen(True)
            self.crew.collect(None, 0)  # what came before

    def unattend(self):
        """One less."""
        self._attended -= 1

    def wants_results(self):
        unasked = self.watching and self._look_at is None and self.crew.pending
        return self._attended > 0 or bool(unasked) or self.state == CLOSE

    # ---- the end of a worker

    def worker_died(self, death):
        executor = self._executor()
        forced = executor is not None and executor._force_shutting_down
        if death.exitcode == 0 and death.ready and not death.held:
            self.by_pid.pop(death.pid, None)
            if not self.by_pid and self.crew.pending:
                self._last_one_left(forced, executor is None)
            return
        cause = LostWorker(death.pid, death.exitcode, death.held[0][3] if death.held else "", death.stacks)
        if forced or self.on_worker_death is None:
            self._break(ABRUPTLY, cause)
            return
        self.by_pid.pop(death.pid, None)
        for ordinal, receiver, index, _ in death.held:
            if self.on_worker_death != "retry" or not self._try_again(ordinal, receiver, index):
                self.crew.fail(ordinal, broken(THIS_TASK, cause))

    def _last_one_left(self, forced, collected):
        """The last worker has done the number of tasks that it was to do, and there are others in line."""
        if forced:
            self._break("A worker process exited while the pool was being forcefully shut down; work that was still "
                        "enqueued will not be run.", None)
        elif collected and self.maxtasks is not None:
            self._break("The ProcessPoolExecutor was garbage collected with work pending after its last worker process "
                        "exited upon reaching max_tasks_per_child; the pending work can never be run.", None)

    def _try_again(self, ordinal, receiver, index):
        for key in [key for key in self._attempts if key[0].ready]:
            del self._attempts[key]
        attempts = self._attempts[receiver, index] = self._attempts.get((receiver, index), 0) + 1
        return attempts < ATTEMPTS and self.crew.retry(ordinal)

    def _undecodable_result(self, error):
        cause = _as_remote(error)
        if self.on_worker_death is None:
            self._mark_broken()
            self.call_later(self._break, ABRUPTLY, cause)
            return broken(ABRUPTLY, cause)
        return broken("The result of this task cannot be read.", cause)

    def _mark_broken(self):
        executor = self._executor()
        if executor is not None:
            executor._broken = UNUSABLE
            executor._shutdown_thread = True

    def _break(self, message, cause):
        """All is over: nobody knows what state the workers are in."""
        self._mark_broken()
        self.failure = broken(message, cause)
        self.crew.collect(None, 0)
        self.fail_all(self.failure)
        self._run_later()
        self.terminate(self.failure)

    def terminate_for_another(self):
        """End the workers at once, and every task with them: the executor goes on with another supervisor."""
        self._executor = lambda: None
        self.terminate()

    def fail_all(self, error):
        self._mark_broken()
        message, cause = ABRUPTLY, error
        if isinstance(error, BrokenProcessPool):
            message, cause = str(error), error.__cause__
        receivers = self.crew.receivers()
        self.crew.cancel_all()
        for receiver in receivers:
            receiver.fail(broken(message, cause))
