"""What an executor does about its workers: when they start, and what the end of one means for its futures."""
import os
import traceback
import weakref
from concurrent.futures import _base
from concurrent.futures.process import BrokenProcessPool, _ExceptionWithTraceback, _RemoteTraceback

from ..._crew import CLOSE, Supervisor
from ..._crew_worker import work as work_for_crew
from ..._errors import WorkerLostError
from ..._native import core
from ._future import SharedCondition

UNUSABLE = "A child process terminated abruptly, the process pool is not usable anymore"
ABRUPTLY = "A process in the process pool was terminated abruptly while the future was running or pending."
THIS_TASK = "The process that ran this task was terminated abruptly; the others go on."
ATTEMPTS = 3  # workers that a task may cost before it is not tried again


class LostWorker(WorkerLostError, _RemoteTraceback):
    """Why a worker was lost, as the cause of a BrokenProcessPool."""

    @property
    def tb(self):
        return f"\n'''\nProcess {self.pid} terminated abruptly with exit code {self.exitcode}\n{self}'''"


def broken(message, cause):
    """A BrokenProcessPool error.  Each future has one of its own, for raising an error adds to its traceback."""
    error = BrokenProcessPool(message)
    error.__cause__ = cause
    return error


# ---- in the workers

def _initialize(initializer, initargs):
    try:
        initializer(*initargs)
    except BaseException:
        _base.LOGGER.critical("Exception in initializer:", exc_info=True)
        raise SystemExit(1) from None


def _wrap(exception):
    return _ExceptionWithTraceback(exception, exception.__traceback__)


def _unencodable(error, value, ok):
    return _wrap(error)


def _undecodable(error):
    raise error


def _work(*arguments, breaks):
    work_for_crew(*arguments, _wrap, _unencodable, _undecodable if breaks else None)


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
        self._executor = weakref.ref(executor, lambda _: self.close())
        self._attended = 0  # futures that somebody wants to hear of
        self._attempts = {}  # (receiver, index) -> workers that this task has cost
        if initializer is not None:
            initializer, initargs = _initialize, (initializer, initargs)
        super().__init__(context, 0, initializer=initializer, initargs=initargs, maxtasks=maxtasks, slots=max_workers)

    def make_crew(self, slots):
        return core.Crew(slots, self._undecodable_result)

    def make_process(self, slot, stacks):
        return self.context.Process(target=_work, args=self.worker_arguments(slot, stacks),
                                    kwargs={"breaks": self.on_worker_death is None})

    def worker_started(self, process):
        self.by_pid[process.pid] = process

    @property
    def thread(self):
        """The supervising thread; None before it is started."""
        return self._thread

    def wakeup(self):
        """The interpreter ends: see to the end of all tasks.  (The standard library's name for it.)"""
        self.close()

    def close(self):
        if self._owner_pid == os.getpid():
            super().close()

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
        return self._attended > 0 or self.state == CLOSE

    # ---- the end of a worker

    def worker_died(self, death):
        self.by_pid.pop(death.pid, None)
        executor = self._executor()
        forced = executor is not None and executor._force_shutting_down
        if death.exitcode == 0 and death.ready and not death.held:
            if not self.by_pid and self.crew.pending:
                self._last_one_left(forced, executor is None)
            return
        cause = LostWorker(death.pid, death.exitcode, death.held[0][3] if death.held else "", death.stacks)
        if forced or self.on_worker_death is None:
            self._break(ABRUPTLY, cause)
            return
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
        text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        cause = _RemoteTraceback(f"\n'''\n{text}'''")
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

    def fail_all(self, error):
        self._mark_broken()
        message, cause = ABRUPTLY, error
        if isinstance(error, BrokenProcessPool):
            message, cause = str(error), error.__cause__
        receivers = self.crew.receivers()
        self.crew.cancel_all()
        for receiver in receivers:
            receiver.fail(broken(message, cause))
