"""Processes that are forked right behind each other."""
import gc
import itertools
import multiprocessing.process
import os
import signal
import time

import pytest

import mpfast
from mpfast import _native, popen_fork

from conftest import METHODS

pytestmark = pytest.mark.skipif(not _native.ENABLED or not hasattr(popen_fork, "watching"), reason="needs pidfds")
LONG = 60
fork = mpfast.get_context("fork")


def at_once(count, cls=fork.Process):
    return [cls(target=time.sleep, args=(600,), daemon=True) for _ in range(count)], []


def end(processes):
    for process in processes:
        process.kill()
        process.join(LONG)
        assert process.exitcode == -signal.SIGKILL
        process.close()


def what_there_is():
    """Descriptors of this process, and its children, dead ones too."""
    parents = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as file:
                parents[pid] = int(file.read().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            pass
    return set(os.listdir("/proc/self/fd")), {pid for pid, parent in parents.items() if parent == os.getpid()}


def test_processes_started_together(code):
    assert code("""
import sys
import mpfast
from mpfast.popen_fork import start_together

def show(queue):
    me = mpfast.current_process()
    queue.put((me.name, me.pid, me.daemon, mpfast.parent_process().pid, mpfast.active_children()))

fork = mpfast.get_context("fork")
queue = fork.SimpleQueue()
print("once", end=" ")
processes = [fork.Process(target=show, args=(queue,), daemon=True) for _ in range(5)]
started = []
assert start_together(processes, started)
assert started == processes
assert set(mpfast.active_children()) <= set(processes)
me = mpfast.current_process().pid
told = sorted(queue.get() for _ in processes)
assert told == [(process.name, process.pid, True, me, []) for process in processes]
for process in processes:
    process.join()
    assert process.exitcode == 0 and not hasattr(process, "_target")
print([process.name for process in processes])
""") == "once " + str([f"ForkProcess-{n}" for n in range(1, 6)]) + "\n"


PRINTS = """
import os
import sys
import multiprocessing
os.register_at_fork(after_in_parent=lambda: print("in the parent"))
if sys.argv[1:] == ["mpfast"]:
    import mpfast as multiprocessing
with multiprocessing.get_context("fork").Pool(3) as pool:
    print(pool.map(abs, range(3)))
"""


def test_what_hooks_print_comes_once(python):
    assert python("-c", PRINTS, "mpfast").stdout == python("-c", PRINTS).stdout == "in the parent\n" * 3 + "[0, 1, 2]\n"


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_thread_that_a_hook_starts_between_two_forks_is_none_of_the_second_child(code):
    assert code("""
import os
import threading
import warnings
import mpfast
from mpfast.popen_fork import start_together
warnings.simplefilter("ignore", DeprecationWarning)
fork = mpfast.get_context("fork")
threads, go_on = [], threading.Event()

def start_one():
    if not threads:
        threads.append(threading.Thread(target=go_on.wait, daemon=True))
        threads[0].start()

os.register_at_fork(after_in_parent=start_one)
queue = fork.SimpleQueue()

def tell(name):
    queue.put((name, threading.active_count()))

processes = [fork.Process(target=tell, args=(name,)) for name in "ab"]
started = []
assert start_together(processes, started) and started == processes
print(sorted(queue.get() for _ in processes), threading.active_count())
for process in processes:
    process.join()
if os.fork() == 0:  # the hook of threading has its own body again
    os._exit(threading.active_count())
print(os.waitstatus_to_exitcode(os.wait()[1]))
go_on.set()
""") == "[('a', 1), ('b', 1)] 2\n1\n"


def test_a_fork_of_the_programs_own_that_raises_in_the_child_ends_that_child_alone(code):
    assert code("""
import os
import mpfast
fork, parent = os.fork, os.getpid()

def fail_in_child():
    if (pid := fork()) == 0:
        raise RuntimeError("in the child")
    return pid

os.fork = fail_in_child
process = mpfast.get_context("fork").Process(target=print, args=("called",))
try:
    process.start()
except RuntimeError:
    print("went on", flush=True)
    os._exit(1)
process.join()
print(process.exitcode)
""") == "1\n"


@pytest.mark.parametrize("fails", (False, True))
def test_threading_cleans_up_in_the_programs_own_forks_afterwards(code, fails):
    assert code(f"""
import os
import threading
import warnings
import mpfast
from mpfast.popen_fork import start_together
warnings.simplefilter("ignore", DeprecationWarning)
processes = [mpfast.get_context("fork").Process(target=int) for _ in range(2)]
fork, forks = os.fork, []

def fail_at_last():
    forks.append(1)
    if {fails} and len(forks) == 2:
        raise BlockingIOError
    return fork()

os.fork = fail_at_last
started = []
try:
    start_together(processes, started)
except BlockingIOError:
    pass
assert len(started) == {1 if fails else 2}
for process in started:
    process.join()
go_on = threading.Event()
threading.Thread(target=go_on.wait, daemon=True).start()
if fork() == 0:
    os._exit(threading.active_count())
print(os.waitstatus_to_exitcode(os.wait()[1]))
go_on.set()
""") == "1\n"


@pytest.mark.parametrize("own", (
    "BaseProcess.terminate", "BaseProcess._check_closed", "Popen.terminate", "Popen._send_signal", "signal.pidfd_send_signal",
    "an instance's", "the Popen's", "the Popen's _send_signal"))
def test_how_the_program_has_workers_terminated(monkeypatch, own):
    def note(function):
        def noting(*arguments):
            noted.append(own)
            return function(*arguments)
        return noting

    noted = []
    with fork.Pool(2) as pool:
        pool.map(abs, range(4))
        process = pool._pool[0]
        place = {
            "BaseProcess": multiprocessing.process.BaseProcess, "Popen": popen_fork.Popen, "signal": signal}.get(own.partition(".")[0])
        if place is not None:
            name = own.partition(".")[2]
            monkeypatch.setattr(place, name, note(getattr(place, name)))
        else:
            place = process if own == "an instance's" else process._popen
            name = "_send_signal" if own.endswith("_send_signal") else "terminate"
            setattr(place, name, note(getattr(place, name)))
    pool.join()
    assert noted
    assert {process.exitcode for process in pool._pool} == {-signal.SIGTERM}


def test_what_sends_signals_is_replaced_before_the_first_pool(code):
    assert code("""
import signal
import mpfast
noted = []

def note(*arguments, send=signal.pidfd_send_signal):
    noted.append(arguments[1].name)
    send(*arguments)

import mpfast.popen_fork
signal.pidfd_send_signal = note
with mpfast.get_context("fork").Pool(2):
    pass
print(noted)
""") == "['SIGTERM', 'SIGTERM']\n"


def test_one_of_those_started_together_cannot_be_forked(monkeypatch):
    processes, started = at_once(3)
    forks = iter([os.fork, os.fork])

    def fail_the_third():
        for one in forks:
            return one()
        raise BlockingIOError("no more processes")

    monkeypatch.setattr(os, "fork", fail_the_third)
    with pytest.raises(BlockingIOError, match="no more"):
        popen_fork.start_together(processes, started)
    monkeypatch.undo()
    assert started == processes[:2] and processes[2].pid is None
    assert all(process.is_alive() for process in started)
    end(started)


@pytest.mark.parametrize("when", ("before its finalizer has it", "when that has it", "when it is noted"))
def test_an_error_right_after_processes_were_forked_leaves_none(monkeypatch, when):
    class Interrupted(popen_fork.Finalize):
        @property
        def _args(self):
            return vars(self)["_args"]

        @_args.setter
        def _args(self, arguments):
            is_second = bool(arguments) and next(calls) == 2
            if is_second and when == "before its finalizer has it":
                raise KeyboardInterrupt
            vars(self)["_args"] = arguments
            if is_second and when == "when that has it":
                raise KeyboardInterrupt

    class InterruptedSet(set):
        def add(self, process):
            if when == "when it is noted" and process is processes[1] and process not in tried:
                tried.append(process)
                raise KeyboardInterrupt
            super().add(process)

    def close(descriptor, close=os.close):
        try:
            close(descriptor)
        except OSError as error:
            closed_twice.append(error)

    gc.collect()  # what others have left may have descriptors
    before = what_there_is()
    processes, started = at_once(4)
    calls, closed_twice, tried = itertools.count(1), [], []
    monkeypatch.setattr(popen_fork, "Finalize", Interrupted)
    monkeypatch.setattr(multiprocessing.process, "_children", InterruptedSet(multiprocessing.process._children))
    monkeypatch.setattr(os, "close", close)
    with pytest.raises(KeyboardInterrupt):
        popen_fork.start_together(processes, started)
    gc.collect()
    assert not closed_twice
    assert started == processes[:2 if when == "when it is noted" else 1]
    assert set(started) <= multiprocessing.process._children
    end(started)
    monkeypatch.undo()
    assert what_there_is() == before


def test_where_a_finalizer_cannot_be_made_nothing_is_forked(monkeypatch):
    def fail(*_):
        raise MemoryError

    before = what_there_is()
    processes, started = at_once(2)
    monkeypatch.setattr(popen_fork, "Finalize", fail)
    with pytest.raises(MemoryError):
        popen_fork.start_together(processes, started)
    assert not started and what_there_is() == before


def test_an_interrupt_in_a_child_before_it_is_itself_ends_that_child_alone(python):
    done = python("-c", """
import ctypes
import os
import mpfast
parent = os.getpid()
interrupt = ctypes.CDLL(None)["raise"]
os.register_at_fork(after_in_child=lambda: interrupt(2))
mpfast.log_to_stderr()  # children run by the standard library's method
with mpfast.get_context("fork").Pool(3) as pool:
    assert os.getpid() == parent
    print("made")
assert os.getpid() == parent
print("over")
""")
    assert (done.returncode, done.stdout) == (0, "made\nover\n"), done.stderr


@pytest.mark.parametrize("own", ("start", "_Popen", "an instance's", "Popen", "Popen._launch", "a class"))
def test_where_starting_is_the_programs_own_nothing_is_forked_ahead(monkeypatch, own):
    def anything(*_):
        raise AssertionError("called")

    cls = fork.Process
    if own == "a class":
        cls = type("Own", (cls,), {})
    elif own == "start":
        monkeypatch.setattr("multiprocessing.process.BaseProcess.start", anything)
    elif own == "_Popen":
        monkeypatch.setattr(cls, "_Popen", anything)
    elif own == "Popen":
        monkeypatch.setattr(popen_fork, "Popen", type("Popen", (popen_fork.Popen,), {}))
    elif own == "Popen._launch":
        monkeypatch.setattr(popen_fork.Popen, "_launch", anything)
    processes, started = at_once(2, cls)
    if own == "an instance's":
        for process in processes:
            process.start = anything
    monkeypatch.setattr(os, "fork", anything)
    assert popen_fork.start_together(processes, started) is False
    assert started == []


def test_what_was_replaced_before_the_first_start_counts_as_the_programs_own(code):
    assert code("""
import os
import multiprocessing.process as process
import mpfast

def start(self, former=process.BaseProcess.start):
    os.environ["STARTED"] = self.name
    former(self)

process.BaseProcess.start = start
with mpfast.get_context("fork").Pool(2) as pool:
    print(set(pool.map(os.environ.get, ["STARTED"] * 20)) <= {"ForkPoolWorker-1", "ForkPoolWorker-2"})
""") == "True\n"


@pytest.mark.parametrize("state", ("started", "closed"))
def test_none_are_started_together_if_one_cannot_be(state):
    processes, started = at_once(3)
    processes[1].start()
    if state == "closed":
        end(processes[1:2])
    assert popen_fork.start_together(processes, started) is False
    assert started == [] and processes[0].pid is None
    if state == "started":
        end(processes[1:2])


def test_daemons_start_none_together(code):
    assert code("""
import mpfast
from mpfast.popen_fork import start_together

def start(queue):
    processes = [fork.Process(target=print) for _ in range(2)]
    queue.put(start_together(processes, []))
    try:
        fork.Pool(2)
    except AssertionError as error:
        queue.put(str(error))

fork = mpfast.get_context("fork")
queue = fork.SimpleQueue()
daemon = fork.Process(target=start, args=(queue,), daemon=True)
daemon.start()
print(queue.get(), queue.get())
""") == "False daemonic processes are not allowed to have children\n"


def test_workers_of_a_pool_run_side_by_side():
    for method in METHODS:
        context = mpfast.get_context(method)
        barrier = context.Barrier(3)
        with context.Pool(3, initializer=barrier.wait, initargs=(LONG,)) as pool:
            assert pool.map(abs, range(3)) == [0, 1, 2]
