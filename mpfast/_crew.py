"""Worker processes of one ``_core.Crew``: starting them, watching them, replacing them.

A :class:`Supervisor` stands between a pool or an executor and the crew that its workers serve.  It starts the workers
through a context, and it has the one thread that everything in the background happens on, started when there is something
to do for it (until then ``_core.Watch`` waits for that, which costs less than a thread of the interpreter):

- a worker that ends is noticed through its pidfd, what it held fails (or whatever the owner wants), and another one
  takes its place;
- workers that end again and again before they are ready for a task are started ever more slowly and then no more: the
  crew has failed, and so has every task;
- a task that takes longer than its timeout is ended together with its worker;
- results that nobody waits for are collected while somebody wants to hear of them: callbacks, futures.

The thread sleeps in poll(): an idle supervisor costs nothing.  The supervisor knows nothing of its owner, so an owner that
nobody refers to any more can be collected and its finalizer can terminate() the supervisor.

Locks: ``_population`` is held while workers are started, buried or terminated, so that nobody starts one behind the back
of who ends them.  It can be entered again by the thread that has it, for a finalizer may run anywhere.  No code of the
program runs under it, but for what unpickling and finalizers do.
"""
import collections
import faulthandler
import os
import select
import threading
import time
from multiprocessing import ProcessError, TimeoutError, util

from . import _native
from ._crew_members import Death, Worker
from ._crew_wakeups import Latch, WakeDescriptor
from ._crew_worker import Stacks, work

try:
    from .popen_fork import end, start_together  # type: ignore[attr-defined]
except ImportError:  # a kernel without pidfds
    end = start_together = None

Watch = _native.core.Watch

RUN = "RUN"
CLOSE = "CLOSE"
TERMINATE = "TERMINATE"

SPARE_SLOTS = 62  # a crew has so many slots at least, for resize()
PATIENCE = 12  # workers in a row that may end before they are ready
FIRST_DELAYS = 3  # of them, so many are replaced at once
LONGEST_DELAY = 1.0  # seconds
LOOK_AGAIN = 1.0  # seconds; a worker without a free descriptor cannot ring, nor does a thread that delivers for others
FINALIZER_PATIENCE = 1.0  # seconds that a garbage collection waits for the thread


def _delay(failures):
    """Seconds to wait before the next start after so many *failures* in a row."""
    return min(LONGEST_DELAY, 0.01 * 2 ** min(failures, 30))


class Supervisor:
    """The workers of a crew.

    context: a multiprocessing context; processes: int, how many workers there should be; initializer, initargs: called in each
    worker first; maxtasks: int or None, tasks (pieces of a map) after which a worker is replaced; max_memory: int or None,
    resident bytes above which it is, after a task; slots: int, the most workers there can ever be at a time.

    Attributes: crew; workers, the list of the Process objects; processes; slots; state, one of RUN, CLOSE, TERMINATE; failure,
    None or the exception because of which no worker is started any more.
    """

    thread_name = "mpfast-crew"
    worker_name = "PoolWorker"

    def __init__(self, context, processes, *, initializer=None, initargs=(), maxtasks=None, max_memory=None, slots=None):
        self.context = context
        self.processes = processes
        self.initializer = initializer
        self.initargs = initargs
        self.maxtasks = maxtasks
        self.max_memory = max_memory
        self.slots = slots or processes + SPARE_SLOTS
        self.crew = self.make_crew(self.slots)
        self.workers = []
        self.state = RUN
        self.failure = None
        self.feeding = 0  # inputs that are still being read
        self.listening = False
        self._by_process = {}  # Process object -> Worker
        self._population = threading.RLock()
        self._thread = None
        self._ident = None  # of the thread, while it runs
        self._starter = None  # and of the one that starts it
        self._terminated = False
        self._over = Latch()  # it has run, or never will
        self._watcher = None  # the _core.Watch, before there is a thread
        self._owner_pid = os.getpid()
        self._wake = WakeDescriptor()
        self.bells = [self._wake.number]  # descriptors that wake the thread, beside those of crew and workers
        self._later = collections.deque()
        self._overdue = set()  # ordinals of tasks whose workers were killed for taking too long
        self._unready = 0  # workers in a row that ended before they were ready
        self._start_at = 0.0  # when the next worker may be started
        self._poll = None  # to be made anew when None

    # ---- for owners to override

    def make_crew(self, slots):
        """Returns the crew, for *slots* workers."""
        return _native.core.Crew(slots)

    def worker_started(self, process):
        """Take notice of a worker's *process*, just started (in whatever thread)."""

    def make_process(self, slot, stacks):
        """Returns the Process object, not started, of the worker for *slot*."""
        process = self.context.Process(target=work, args=self.worker_arguments(slot, stacks))
        process.name = process.name.replace("Process", self.worker_name)
        process.daemon = True
        return process

    def launch(self, processes, started):
        """Start *processes*, which make_process() returned, in their order, and append each to the list *started*."""
        if start_together is not None and (self.state == TERMINATE or start_together(processes, started)):
            return
        for process in processes:
            if self.state == TERMINATE:
                break
            try:
                process.start()
            except BaseException:
                if getattr(process, "pid", None) is not None:  # an interrupt, and it had been started
                    started.append(process)
                raise
            started.append(process)

    def worker_arguments(self, slot, stacks):
        """Returns the arguments of work()."""
        return (self.crew, slot, self.initializer, self.initargs, self.maxtasks, self.max_memory, stacks.address())

    def wants_results(self):
        """Whether results that nobody waits for have to be collected.  Asked whenever some were."""
        return self.state == CLOSE

    def worker_died(self, death):
        """Deal with a :class:`Death`.  What death.held lists has to be failed or retried."""
        for ordinal, _, _, task in death.held:
            self.crew.fail(ordinal, death.error(task))

    def timed_out(self, ordinal, task, death):
        """Fail a task that was ended because it took longer than it was given."""
        self.crew.fail(ordinal, TimeoutError(f"{task} took longer than its timeout; worker {death.pid} was ended"))

    def none_can_start(self, error):
        """No worker is left, and starting one raises *error* again and again."""
        self.give_up(error)

    def fail_all(self, error):
        """End every unresolved task with *error*, because there are no workers and will be none."""
        for receiver in self.take_back():
            receiver.finish(False, error)

    def take_back(self):
        """Take back every task that no worker has begun.  Returns the receivers of these and of all others."""
        cancelled = {receiver for _, receiver, _ in self.crew.cancel_all()}
        return cancelled.union(self.crew.receivers())

    # ---- workers

    def missing(self):
        """How many workers have to be started now."""
        if self.failure is not None or self.state == TERMINATE or self.crew.closed:
            return 0
        return max(0, self.processes - len(self.workers))

    def populate(self):
        """Start the workers that are missing, in the calling thread.  Raises what starting one raises."""
        try:
            with self._population:
                self._start_workers(self.missing())
        finally:  # some may have been started all the same
            self._poll = None
            if (self._thread is not None or self._watcher is not None) and not self.on_thread():
                self.wake()

    def _start_workers(self, count):
        # What can be done before all of the starts is, as what can be behind them: there each page that is written to is copied.
        workers = []
        started = []
        try:
            for _ in range(count):
                workers.append(self._prepare_worker())
            self.launch([worker.process for worker in workers], started)
        finally:
            self._by_process.update(zip(started, workers))
            self.workers.extend(started)
            while len(workers) > len(started):
                worker = workers.pop()
                worker.release()
                self.crew.lost(worker.slot)
            for worker in workers:
                if worker.process in self._by_process:  # else ended again, by a finalizer that ran in this thread meanwhile
                    worker.watch()
                    self.worker_started(worker.process)
                    util.debug("added worker")
            if self.state == TERMINATE:
                self._end_workers()

    def _prepare_worker(self):
        slot = self.crew.add_worker()
        # A forked worker has its parent's faulthandler, and leaves one that is enabled as it is.
        stacks = Stacks(getattr(self.context, "_name", None) != "fork" or not faulthandler.is_enabled())
        try:
            process = self.make_process(slot, stacks)
            process.outlive_parent = False  # those that are not daemonic, too: a server that forks them has to be told
            return Worker(process, slot, stacks)
        except BaseException:
            self.crew.lost(slot)
            stacks.close()
            raise

    def resize(self, processes):
        """Have so many workers.  Those that cannot be started now are tried again later."""
        if processes > self.slots:
            raise ValueError(f"This pool can have at most {self.slots} processes")
        self.processes = processes
        self.populate()
        self.dismiss_surplus()

    def dismiss_surplus(self):
        """Have the workers that are too many leave after their present task, idle ones first."""
        with self._population:
            surplus = len(self.workers) - self.processes
            if surplus > 0:
                workers = [self._by_process[process] for process in self.workers]
                workers.sort(key=lambda worker: self.crew.worker(worker.slot)[1] == "busy")
                for worker in workers[:surplus]:
                    self.crew.dismiss(worker.slot)

    # ---- the thread

    def start_watching(self):
        """Have the thread started when there is something for it to do.  After the first workers are started."""
        try:
            descriptors = self.bells.copy()
            for worker in self._by_process.values():
                descriptors.append(worker.descriptor)
            self._watcher = Watch(tuple(descriptors), self._start_watched)
        except RuntimeError:  # another interpreter than the main one
            self.start_thread()

    def _start_watched(self):
        self._starter = threading.get_ident()
        if self.state == TERMINATE:
            self._over.open()
            return
        try:
            self.start_thread()
        except BaseException:  # at the end of a program there are no new threads: this one, which is there, has to do
            self._thread = None
            self._watch()
        finally:
            self._starter = None

    def start_thread(self):
        """Have the supervising thread run.  After the first workers are started: forking is safe before there are threads."""
        self._thread = threading.Thread(target=self._watch, name=self.thread_name, daemon=True)
        self._thread.start()

    def on_thread(self):
        """Whether the caller is the supervising thread."""
        return self._ident == threading.get_ident()

    def wake(self):
        """Have the thread look at everything."""
        self._wake.ring()

    def call_later(self, function, *arguments):
        """Have the thread call *function*."""
        self._later.append((function, arguments))
        self.wake()

    def listen(self):
        """Have the thread collect results as they arrive, until wants_results() is false.  To be called after submitting."""
        if not self.listening:
            self.listening = True
            self.crew.listen(True)
            self.wake()

    def _watch(self):
        self._ident = threading.get_ident()
        try:
            while self._turn():
                pass
        except BaseException as error:
            if self.state == TERMINATE:
                return  # by a finalizer that ran in the midst of something
            try:
                self.give_up(self.failure or error)
            finally:
                self.terminate()  # nobody would look after the workers
            raise
        finally:
            self._poll = self._ident = None
            self._over.open()

    def _turn(self):
        """Sleep, then do what there is to do.  Returns whether to go on."""
        if self.state == TERMINATE:
            return False
        poll = self._poll  # another thread may want a new one at any time
        if poll is None:
            poll = self._poll = self._make_poll()
        ready = dict(poll.poll(self._milliseconds()))
        if self._wake.number in ready:
            self._wake.silence()
            self._poll = None  # workers may have been added while it was made
        if self.state == TERMINATE:
            return False
        self._collect(ready)
        self._run_later()
        self._bury(ready)
        self._replace()
        return self.state != CLOSE or not self._finish_closed()

    def _make_poll(self):
        poll = select.poll()
        for descriptor in (*self.bells, self.crew.fileno()):
            poll.register(descriptor, select.POLLIN)
        with self._population:
            for worker in self._by_process.values():
                if worker.descriptor < 0:
                    worker.watch()  # who started it was interrupted
                if worker.descriptor >= 0:
                    poll.register(worker.descriptor, select.POLLIN)
        return poll

    def _milliseconds(self):
        """How long to sleep; None: until something happens."""
        if self._later:
            return 0
        waits = []
        seconds = self._end_overdue()
        if seconds is not None:
            waits.append(seconds)
        if self.missing() and (self.state == RUN or self._has_work()):
            waits.append(self._start_at - time.monotonic())
        if self.listening and (self.crew.pending or self.crew.delivering):
            waits.append(LOOK_AGAIN)
        return max(0, int(min(waits) * 1000) + 1) if waits else None

    def _collect(self, ready):
        if not self.listening:
            if self.crew.fileno() in ready:  # rung late, by a worker that saw us listen
                self.crew.collect(None, 0)
            return
        self.crew.collect(None, 0)
        if not self.wants_results():
            self.crew.listen(False)
            self.listening = False
            if self.wants_results():  # since a moment ago, by who saw that we were listening
                self.listen()

    def _run_later(self):
        for _ in range(len(self._later)):
            try:
                function, arguments = self._later.popleft()
            except IndexError:
                return  # another thread takes them, too, when this one ends
            function(*arguments)
            function = arguments = None

    # ---- deaths

    def _bury(self, ready):
        """See to the workers whose descriptors are *ready*: they have ended."""
        deaths = []
        with self._population:
            if self.state == TERMINATE:
                return
            for worker in [w for w in self._by_process.values() if w.descriptor in ready]:
                if self._by_process.pop(worker.process, None) is None:
                    return  # a finalizer that ran in this thread has ended them all
                deaths.append(self._bury_one(worker))
                self._poll = None
        for death in deaths:
            if death.ready:
                self._unready = 0
            else:
                self._count_unready(death)
            self._settle_overdue(death)
            self.worker_died(death)

    def _bury_one(self, worker):
        process = worker.process
        exitcode = worker.exitcode()
        ready = self.crew.worker(worker.slot)[1] != "starting"
        held = self.crew.lost(worker.slot)
        death = Death(process, exitcode, held, worker.stacks.read() if exitcode else "", ready)
        worker.release()
        if not self.crew.closed:  # of a pool that has ended in order its last workers can be looked at
            self.workers.remove(process)
        process.join()
        util.debug("cleaning up worker %d", death.pid)
        return death

    def _count_unready(self, death):
        self._unready += 1
        late = self._unready - FIRST_DELAYS
        if late > 0:
            self._start_at = time.monotonic() + _delay(late)
        if self._unready >= max(PATIENCE, 3 * self.processes):
            self.give_up(death.error("its initializer (no worker gets ready for a task)"))

    def give_up(self, error):
        """There will be no more workers."""
        self.failure = error
        self.fail_all(error)

    def _replace(self):
        if not self.missing() or time.monotonic() < self._start_at:
            return
        if self.state == CLOSE and not self._has_work():
            return
        try:
            self.populate()
        except Exception as error:  # no memory, no more processes: try again, but not for ever
            self._poll = None
            self._unready += 1
            self._start_at = time.monotonic() + _delay(self._unready)
            if self._unready >= PATIENCE and not self.workers:
                self.none_can_start(error)

    # ---- timeouts of tasks

    def _end_overdue(self):
        """Kill the workers of tasks that take too long.  Returns the seconds until the next could, None for never."""
        overdue, seconds = self.crew.overdue()
        if overdue:
            with self._population:
                slots = {worker.slot: worker for worker in self._by_process.values()}
                for slot, ordinal in overdue:
                    if slot in slots and ordinal not in self._overdue:
                        self._overdue.add(ordinal)
                        slots[slot].process.kill()
        return seconds

    def _settle_overdue(self, death):
        left = []
        for entry in death.held:
            if entry[0] not in self._overdue:
                left.append(entry)
            else:
                self._overdue.discard(entry[0])
                self.timed_out(entry[0], entry[3], death)
        death.held = left

    # ---- the end

    def _has_work(self):
        return bool(self.feeding or self.crew.pending or self.crew.delivering or self._later)

    def _finish_closed(self):
        """For a closed crew: whether everything is done and all workers have left."""
        if self._has_work():
            self.listen()
            if self.failure is None or self._by_process:
                return False
            self.fail_all(self.failure)
        if not self.crew.closed:
            self.crew.close()
        return not self._by_process

    def close(self):
        """No more tasks: workers leave when all are done, and the thread ends."""
        if self._owner_pid != os.getpid():
            return
        if self.state == RUN:
            self.state = CLOSE
        self.wake()

    def terminate(self, error=None):
        """End the workers at once, and every unresolved task with *error*.  Waits until they have ended.

        May be called by a finalizer, in whatever thread and wherever that is just now.
        """
        if self._owner_pid != os.getpid():
            return
        self.state = TERMINATE
        self.failure = self.failure or error or ProcessError("terminated before the task was done")
        with self._population:
            self._end_workers()
        self.fail_all(self.failure)
        self._terminated = True

    def finish_terminating(self):
        """terminate(), if that was interrupted or has not even begun."""
        if not self._terminated:
            self.terminate()

    def _end_workers(self):
        # Idle ones last: one that is woken may take this CPU for the whole of its end.
        idle, workers = [], []
        for worker in list(self._by_process.values()):
            try:
                is_idle = self.crew.worker(worker.slot)[1] == "idle"
            except ValueError:
                continue  # a signal handler has terminated the pool meanwhile
            (idle if is_idle else workers).append(worker)
        workers += idle
        for worker in workers:
            if end is None or not end(worker.process):
                worker.process.terminate()
        self.crew.abandon()  # one that a handler of the program's keeps alive leaves after its task
        if self._watcher is not None and self._watcher.stop():
            self._over.open()
        else:
            self.wake()
        for worker in workers:
            worker.process.join()
            if getattr(getattr(worker.process, "_popen", None), "returncode", None) is None:
                worker.ended()  # its join() is the program's, or the program has waited for it
        for worker in workers:  # not before all of them are gone: each time the crew looks for the dead
            if self._by_process.pop(worker.process, None) is not None:  # else a finalizer that ran in this thread has seen to it
                for ordinal, *_ in self.crew.lost(worker.slot):
                    self.crew.fail(ordinal, self.failure)
                worker.release()

    def join(self):
        """Wait for the thread and the workers; after close() or terminate()."""
        self._join_thread()
        for process in list(self.workers):
            process.join()

    def finalize(self):
        """For the finalizer of the owner: terminate(), and wait for the thread unless that may be for ever."""
        if self._owner_pid != os.getpid():
            return
        self.terminate()
        self._join_thread(FINALIZER_PATIENCE)

    def _join_thread(self, timeout=-1):
        if self._owner_pid != os.getpid() or self._watcher is self._thread is None:
            return
        if threading.get_ident() in (self._ident, self._starter):
            return  # a finalizer runs anywhere
        self._over.wait(timeout)
        thread = self._thread
        if thread is not None and thread.is_alive() and thread.ident != threading.get_ident():
            thread.join(timeout if timeout >= 0 else None)
