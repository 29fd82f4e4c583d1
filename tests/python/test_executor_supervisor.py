"""ProcessPoolExecutor: its thread, its workers, and what the death of one means for its futures."""
import concurrent.futures as stdlib
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures.process import BrokenProcessPool

import pytest
from conftest import sleeps
from executor_tasks import LONG, NATIVE, Blocked, context, eventually, fail, identity, native, pid_of_worker

import mpfast
from mpfast.concurrent.futures import ProcessPoolExecutor


# ---- its thread

@native
def test_one_thread_serves_an_executor(executor):
    before = threading.active_count()
    assert list(executor.map(identity, range(10))) == list(range(10))
    done = threading.Event()
    executor.submit(identity, 1).add_done_callback(lambda future: done.set())
    assert done.wait(LONG)
    assert threading.active_count() <= before + 1


@native
def test_an_idle_executor_sleeps(executor):
    assert list(executor.map(identity, range(10))) == list(range(10))
    future = executor.submit(identity, 1)
    done = threading.Event()
    future.add_done_callback(lambda future: done.set())
    assert done.wait(LONG)
    eventually(lambda: sleeps(executor._processes.values(), executor._executor_manager_thread))


@native
def test_an_executor_whose_thread_cannot_be_started_starts_over(executor, monkeypatch):
    def no_more_threads(thread):
        raise RuntimeError("can't start new thread")

    before = set(context.active_children())
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_more_threads)
        for _ in range(2):
            with pytest.raises(RuntimeError, match="can't start"):
                executor.submit(identity, 1)
            assert set(context.active_children()) == before and not executor._processes
        with pytest.raises(RuntimeError, match="can't start"):
            executor.map(identity, range(10))
    assert executor.submit(identity, 1).result(LONG) == 1
    assert list(executor.map(identity, range(10), timeout=LONG)) == list(range(10))


@native
def test_an_executor_that_is_interrupted_when_its_thread_has_begun_goes_on_with_it(executor, monkeypatch):
    def interrupted(thread, start=threading.Thread.start):
        start(thread)
        raise KeyboardInterrupt

    before = threading.active_count()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            executor.submit(identity, 1)
    assert executor._executor_manager_thread in threading.enumerate()
    assert executor.submit(identity, 2).result(LONG) == 2
    assert threading.active_count() == before + 1
    executor.shutdown()
    assert threading.active_count() == before


@native
def test_a_thread_that_begins_when_its_start_has_failed_does_nothing(executor, monkeypatch):
    late = []

    def interrupted(thread):
        late.append(thread)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            executor.submit(identity, 1)
    late[0].start()
    late[0].join(LONG)
    assert not late[0].is_alive()
    assert executor.submit(identity, 2).result(LONG) == 2


@native
def test_a_program_ends_whose_executor_never_got_a_thread():
    code = """
import threading, mpfast
from mpfast.concurrent.futures import ProcessPoolExecutor
executor = ProcessPoolExecutor(2, mp_context=mpfast.get_context("fork"))
start, threading.Thread.start = threading.Thread.start, None
try:
    executor.submit(abs, -1)
except TypeError:
    print("no thread")
threading.Thread.start = start
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=LONG)
    assert (ended.stdout, ended.stderr, ended.returncode) == ("no thread\n", "", 0)


class DecodedSlowly:
    began, gate = threading.Event(), threading.Event()

    def __reduce__(self):
        return DecodedSlowly.decode, ()

    @classmethod
    def decode(cls):
        cls.began.set()
        assert cls.gate.wait(LONG)
        return "decoded"


def make_decoded_slowly(gate):
    assert gate.wait(LONG)
    return DecodedSlowly()


class Decoding:
    """An executor with a callback that keeps its thread, and a future whose result another thread is decoding."""

    def __init__(self):
        DecodedSlowly.began.clear()
        DecodedSlowly.gate.clear()
        self.executor = ProcessPoolExecutor(1, mp_context=context)
        called, self.hold = threading.Event(), threading.Event()
        first, gate = context.Event(), context.Event()
        busy = self.executor.submit(first.wait, LONG)
        busy.add_done_callback(lambda future: called.set() or self.hold.wait(LONG))
        first.set()
        assert called.wait(LONG)
        self.thread = self.executor._executor_manager_thread
        self.heard = threading.Event()
        self.future = self.executor.submit(make_decoded_slowly, gate)
        self.future.add_done_callback(lambda future: self.heard.set())
        self.waiter = threading.Thread(target=self.future.result)
        self.waiter.start()
        gate.set()
        assert DecodedSlowly.began.wait(LONG)

    def ends(self):
        """The result is decoded: everybody hears of it."""
        DecodedSlowly.gate.set()
        assert self.heard.wait(LONG)
        self.waiter.join(LONG)
        assert self.future.result(0) == "decoded"
        self.thread.join(LONG)
        assert not self.thread.is_alive()


@native
def test_shutdown_while_a_thread_decodes_a_result_for_a_callback():
    decoding = Decoding()
    decoding.executor.shutdown(wait=False)
    decoding.hold.set()
    decoding.thread.join(0.3)  # it must not end yet, and would before long
    decoding.ends()


@native
def test_a_death_while_a_thread_decodes_a_result_for_a_callback():
    decoding = Decoding()
    for process in decoding.executor._processes.values():
        process.kill()
    decoding.hold.set()
    decoding.thread.join(LONG)
    assert decoding.executor._broken
    decoding.ends()


# ---- workers

def test_workers_start_as_they_do_in_the_standard_library(executor):
    assert executor._processes == {}
    executor.submit(identity, 1)
    assert len(executor._processes) == executor._max_workers == 2  # all at once: forking beside threads is no good
    with ProcessPoolExecutor(4, mp_context=mpfast.get_context("forkserver")) as lazy:
        for _ in range(3):
            lazy.submit(identity, 1).result(LONG)
        assert len(lazy._processes) == 1
        gate = lazy._mp_context.Event()
        for _ in range(20):
            lazy.submit(gate.wait, LONG)
        assert len(lazy._processes) == 4
        gate.set()


def test_initializer():
    with ProcessPoolExecutor(2, mp_context=context, initializer=remember, initargs=("this",)) as executor:
        assert set(executor.map(remembered, range(10))) == {"this"}


_memory = None


def remember(what):
    global _memory
    _memory = what


def remembered(_):
    return _memory


def test_an_initializer_that_fails_breaks_the_executor():
    with ProcessPoolExecutor(2, mp_context=context, initializer=fail, initargs=("at the start",)) as executor:
        with pytest.raises(BrokenProcessPool):
            executor.submit(identity, 1).result(LONG)
        eventually(lambda: executor._broken)
        with pytest.raises(BrokenProcessPool):
            executor.submit(identity, 1)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
@native
def test_a_worker_ends_after_its_number_of_tasks(method):
    with ProcessPoolExecutor(1, mp_context=mpfast.get_context(method), max_tasks_per_child=3) as executor:
        pids = [executor.submit(pid_of_worker).result(LONG) for _ in range(8)]
    assert pids[0] == pids[1] == pids[2] != pids[3] == pids[4] == pids[5] != pids[6] == pids[7]


@native
def test_max_tasks_per_child_as_an_argument():
    with pytest.raises(ValueError, match="incompatible with the 'fork' multiprocessing start method"):
        ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=3)
    with pytest.raises(TypeError, match="max_tasks_per_child must be an integer"):
        ProcessPoolExecutor(1, max_tasks_per_child=3.0)
    with pytest.raises(ValueError, match="max_tasks_per_child must be >= 1"):
        ProcessPoolExecutor(1, max_tasks_per_child=0)
    assert ProcessPoolExecutor(1, max_tasks_per_child=3)._mp_context.get_start_method() == "spawn"


@pytest.mark.parametrize("stop", ["terminate_workers", "kill_workers"])
@native
def test_ending_the_workers(stop):
    blocked = Blocked()
    process, = blocked.executor._processes.values()
    queued = [blocked.executor.submit(identity, i) for i in range(10)]
    getattr(blocked.executor, stop)()
    process.join(LONG)
    assert process.exitcode == -(signal.SIGTERM if stop == "terminate_workers" else signal.SIGKILL)
    with pytest.raises(BrokenProcessPool):
        blocked.first.result(LONG)
    assert all(isinstance(error_of(future), (BrokenProcessPool, stdlib.CancelledError)) for future in queued)
    with pytest.raises(RuntimeError):
        blocked.executor.submit(identity, 1)
    getattr(blocked.executor, stop)()


def error_of(future):
    try:
        return future.exception(LONG)
    except stdlib.CancelledError as exc:
        return exc


# ---- death of a worker

def die(how):
    if how == "exit":
        os._exit(7)
    os.kill(os.getpid(), getattr(signal, how))


def die_once(path, x):
    """Ends its worker the first time that it is called with this *path*, and leaves its mark there."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return x
    os._exit(9)


@pytest.mark.parametrize("how, described", [("SIGKILL", "SIGKILL"), ("SIGSEGV", "SIGSEGV"), ("exit", "exit code 7")])
def test_a_death_breaks_the_executor(how, described):
    with ProcessPoolExecutor(2, mp_context=context) as executor:
        pids = set()
        doomed = executor.submit(die, how)
        pids.update(executor._processes)
        rest = []
        try:
            rest += [executor.submit(time.sleep, LONG) for _ in range(5)]
        except BrokenProcessPool:
            pass
        for future in [doomed, *rest]:
            with pytest.raises(BrokenProcessPool, match="terminated abruptly") as raised:
                future.result(LONG)
            assert future._state == "FINISHED"
        with pytest.raises(BrokenProcessPool, match="not usable anymore"):
            executor.submit(identity, 1)
        assert executor._broken
        if NATIVE:
            cause = doomed.exception().__cause__
            assert cause.pid in pids and described in str(cause) and "die" in str(cause)
            assert isinstance(cause, stdlib.process._RemoteTraceback)


def test_every_future_has_an_error_of_its_own():
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        futures = [executor.submit(time.sleep, LONG) for _ in range(3)]
        next(iter(executor._processes.values())).kill()
        errors = [future.exception(LONG) for future in futures]
        assert len(set(map(id, errors))) == (3 if NATIVE or sys.version_info >= (3, 14) else 1)


def test_the_death_of_an_idle_worker_breaks_the_executor(executor):
    assert executor.submit(identity, 1).result(LONG) == 1
    for process in list(executor._processes.values()):
        process.kill()
    eventually(lambda: executor._broken)
    with pytest.raises(BrokenProcessPool):
        executor.submit(identity, 1)


def test_a_map_whose_worker_dies():
    with ProcessPoolExecutor(2, mp_context=context) as executor:
        with pytest.raises(BrokenProcessPool):
            list(executor.map(die, ["SIGKILL"] * 10, timeout=LONG))


def test_results_that_were_ready_survive_a_death(executor):
    futures = [executor.submit(identity, i) for i in range(50)]
    assert futures[-1].result(LONG) == 49
    assert stdlib.wait(futures, LONG).not_done == set()
    for process in list(executor._processes.values()):
        process.kill()
    assert [future.result(LONG) for future in futures] == list(range(50))


@native
def test_a_death_that_costs_one_task():
    with ProcessPoolExecutor(2, mp_context=context, on_worker_death="raise") as executor:
        for how in ("SIGKILL", "exit"):
            futures = [executor.submit(identity, i) for i in range(20)]
            doomed = executor.submit(die, how)
            futures += [executor.submit(identity, i) for i in range(20, 40)]
            with pytest.raises(BrokenProcessPool) as raised:
                doomed.result(LONG)
            assert raised.value.__cause__.pid
            assert [future.result(LONG) for future in futures] == list(range(40))
        assert not executor._broken
        results = executor.map(die_if_seven, range(14))
        assert [next(results) for _ in range(7)] == list(range(7))
        with pytest.raises(BrokenProcessPool):
            next(results)
        assert executor.submit(identity, 1).result(LONG) == 1
        eventually(lambda: len(executor._processes) == 2)


def die_if_seven(i):
    if i == 7:
        os._exit(1)
    return i


@native
def test_a_task_that_is_tried_again(tmp_path):
    with ProcessPoolExecutor(2, mp_context=context, on_worker_death="retry") as executor:
        futures = [executor.submit(die_once, str(tmp_path / str(i)), i) for i in range(5)]
        assert [future.result(LONG) for future in futures] == list(range(5))
        assert list(executor.map(die_once, [str(tmp_path / "map")] * 8, range(8), chunksize=2)) == list(range(8))
        assert not executor._broken


@native
def test_a_task_that_always_ends_its_worker_is_given_up():
    with ProcessPoolExecutor(2, mp_context=context, on_worker_death="retry") as executor:
        with pytest.raises(BrokenProcessPool):
            executor.submit(die, "SIGKILL").result(LONG)
        with pytest.raises(ValueError, match="on_worker_death"):
            ProcessPoolExecutor(2, on_worker_death="what")
