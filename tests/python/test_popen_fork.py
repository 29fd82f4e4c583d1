"""Processes that are forked right behind each other."""
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


def at_once(count, cls=None):
    processes = [(cls or fork.Process)(target=time.sleep, args=(600,), daemon=True) for _ in range(count)]
    return processes, []


def end(processes):
    for process in processes:
        process.kill()
        process.join(LONG)
        assert process.exitcode == -signal.SIGKILL
        process.close()


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
start_together(processes, started)
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


def test_an_error_right_after_processes_were_forked_leaves_none(monkeypatch):
    import multiprocessing.process
    before = what_there_is()
    processes, started = at_once(3)
    calls = iter([None, KeyboardInterrupt])

    def interrupt():
        error = next(calls)
        if error is not None:
            raise error

    monkeypatch.setattr(multiprocessing.process, "_cleanup", interrupt)
    with pytest.raises(KeyboardInterrupt):
        popen_fork.start_together(processes, started)
    monkeypatch.undo()
    assert started == processes[:1]
    end(started)
    assert what_there_is() == before


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


@pytest.mark.parametrize("own", ("start", "_Popen", "an instance's"))
def test_a_start_of_the_programs_own_is_called(monkeypatch, own):
    calls = []
    former = fork.Process.start

    def start(process):
        calls.append(process)
        former(process)

    class Own(fork.Process):
        pass

    if own == "start":
        Own.start = start
    elif own == "_Popen":
        popen = fork.Process._Popen
        Own._Popen = staticmethod(lambda process: (calls.append(process), popen(process))[1])
    processes, started = at_once(2, Own)
    if own == "an instance's":
        for process in processes:
            process.start = lambda process=process: start(process)
    popen_fork.start_together(processes, started)
    assert calls == started == processes
    end(started)


def test_daemons_start_none_together(code):
    assert code("""
import mpfast
from mpfast.popen_fork import start_together

def start(queue):
    processes = [fork.Process(target=print) for _ in range(2)]
    try:
        start_together(processes, [])
    except AssertionError as error:
        queue.put(str(error))

fork = mpfast.get_context("fork")
queue = fork.SimpleQueue()
daemon = fork.Process(target=start, args=(queue,), daemon=True)
daemon.start()
print(queue.get())
""") == "daemonic processes are not allowed to have children\n"


def test_workers_of_a_pool_run_side_by_side():
    for method in METHODS:
        context = mpfast.get_context(method)
        barrier = context.Barrier(3)
        with context.Pool(3, initializer=barrier.wait, initargs=(LONG,)) as pool:
            assert pool.map(abs, range(3)) == [0, 1, 2]
