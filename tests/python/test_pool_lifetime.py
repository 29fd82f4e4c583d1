"""Pools: how they begin and end, and whose they are."""
import gc
import itertools
import os
import signal
import threading
import time
import warnings
import weakref
from multiprocessing import util

import pytest
from conftest import METHODS
from pool_tasks import LONG, fork, set_and_wait, square, wait_for

import mpfast
import mpfast.pool

pytestmark = pytest.mark.skipif(not hasattr(mpfast.pool.Pool, "_supervisor"), reason="no native pool here")


# ---- beginning

def _initialize(*values):
    global _initialized
    _initialized = values


def _initialized_with(_):
    return _initialized


def test_initializer(pool):
    with mpfast.get_context(pool._ctx._name).Pool(2, _initialize, (1, "two")) as initialized:
        assert initialized.map(_initialized_with, range(4)) == [(1, "two")] * 4


INTERRUPTED_START = """
import multiprocessing.process
import os
import sys
import mpfast
from mpfast import popen_fork

FUNCTIONS = {"launch", "start_together", "follows", "_may_fork_ahead", "_is_plain", "_how_to_fork", "start", "_launch",
             "_end_those_not_started"}

class Interrupt:
    def __init__(self, after):
        self.left = after
        self.pid = os.getpid()

    def __call__(self, frame, event, argument):
        if os.getpid() != self.pid or frame.f_code.co_name not in FUNCTIONS:
            return None
        self.left -= 1
        if self.left == 0:
            sys.settrace(None)
            raise KeyboardInterrupt
        return self

fork = mpfast.get_context("fork")
for after in range(1, 1000):
    sys.settrace(Interrupt(after))
    try:
        pool = fork.Pool(2)
    except KeyboardInterrupt:
        pass
    else:
        sys.settrace(None)
        pool.terminate()
        break
    finally:
        sys.settrace(None)
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        continue
    raise SystemExit(f"a child is left after {after} steps")
print(after > 50)
"""


def test_an_interrupted_start_leaves_no_worker(code):
    assert code(INTERRUPTED_START) == "True\n"


# ---- close and terminate

def test_close_lets_what_was_put_finish(pool):
    results = [pool.apply_async(square, (i,)) for i in range(100)]
    lazy = pool.imap(square, iter(range(50)))
    pool.close()
    for call in (lambda: pool.apply(square, (1,)), lambda: pool.map(square, [1]), lambda: pool.imap(square, [1]),
                 lambda: pool.apply_async(square, (1,)), lambda: pool.imap_unordered(square, [1], 2)):
        with pytest.raises(ValueError, match="Pool not running"):
            call()
    pool.join()
    assert [result.get(0) for result in results] == [i * i for i in range(100)]
    assert list(lazy) == [i * i for i in range(50)]
    assert [process.exitcode for process in pool._pool] == [0] * len(pool._pool)


def test_join_of_a_running_pool(forked):
    with pytest.raises(ValueError, match="Pool is still running"):
        forked.join()


def test_terminate_with_work_pending(pool):
    event = mpfast.Event()
    result = pool.map_async(wait_for, [event] * 1000, chunksize=1)
    lazy = pool.imap(wait_for, itertools.repeat(event))
    processes = list(pool._pool)
    pool.terminate()
    pool.join()
    assert not any(process.is_alive() for process in processes)
    with pytest.raises(mpfast.ProcessError):
        result.get(LONG)
    with pytest.raises(mpfast.ProcessError):
        lazy.next(LONG)
    with pytest.raises(ValueError, match="Pool not running"):
        pool.apply(square, (1,))
    pool.terminate()


def test_terminate_wakes_who_waits(forked):
    started, event = fork.Event(), fork.Event()
    result = forked.apply_async(set_and_wait, (started, event))
    errors = []

    def wait():
        try:
            result.get()
        except mpfast.ProcessError as error:
            errors.append(error)
    waiter = threading.Thread(target=wait)
    waiter.start()
    assert started.wait(LONG)
    forked.terminate()
    waiter.join(LONG)
    assert len(errors) == 1


class InterruptedWatch:
    """Stops what it stands for, and is interrupted before it can say so."""

    def __init__(self, watch):
        self.watch = watch
        self.interrupts = [KeyboardInterrupt]

    def stop(self):
        stopped = self.watch.stop()
        if self.interrupts:
            raise self.interrupts.pop()
        return stopped


@pytest.mark.parametrize("where", ("at its beginning", "at the first worker", "at the watch"))
def test_a_terminate_that_was_interrupted_is_finished_by_another_or_by_join(monkeypatch, where):
    def interrupt(*_):
        monkeypatch.undo()
        raise KeyboardInterrupt

    for again in (True, False):
        pool = fork.Pool(2)
        result = pool.apply_async(time.sleep, (3600,))
        if where == "at its beginning":
            monkeypatch.setattr(util.Finalize, "__call__", interrupt)
        elif where == "at the first worker":
            monkeypatch.setattr(fork.Process, "terminate", interrupt)
        else:
            pool._supervisor._watcher = InterruptedWatch(pool._supervisor._watcher)
        with pytest.raises(KeyboardInterrupt):
            pool.terminate()
        if again:
            pool.terminate()
        waits = threading.Thread(target=pool.join, daemon=True)
        waits.start()
        waits.join(LONG)
        assert not waits.is_alive()
        assert [process.is_alive() for process in pool._pool] == [False] * 2
        with pytest.raises(mpfast.ProcessError):
            result.get(LONG)


def test_leaving_the_block_terminates(forked):
    with fork.Pool(1) as pool:
        assert repr(pool) == "<multiprocessing.pool.Pool state=RUN pool_size=1>"
        processes = list(pool._pool)
    assert pool._state == mpfast.pool.TERMINATE
    assert not any(process.is_alive() for process in processes)
    with pytest.raises(ValueError):
        with pool:
            pass
    pool.join()


def test_an_unclosed_pool_warns_and_ends():
    gc.collect()  # other tests' pools are not to be heard of below
    pool = fork.Pool(1)
    processes = list(pool._pool)
    reference = weakref.ref(pool)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del pool
        gc.collect()
    assert [str(warning.message) for warning in caught if warning.category is ResourceWarning] == [
        "unclosed running multiprocessing pool <multiprocessing.pool.Pool state=RUN pool_size=1>"]
    caught.clear()  # a warning refers to what it is about
    gc.collect()
    assert reference() is None
    for process in processes:
        process.join(LONG)
        assert process.exitcode is not None


def test_a_pending_result_keeps_the_pool():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        assert fork.Pool(1).apply_async(square, (6,)).get(LONG) == 36
        assert list(fork.Pool(1).imap(square, iter(range(5)))) == [0, 1, 4, 9, 16]
        gc.collect()


def test_one_thread_and_no_descriptor_left():
    def descriptors():
        gc.collect()
        return len(os.listdir("/proc/self/fd"))
    with fork.Pool(2) as pool:  # whatever is opened once
        pool.map(square, range(10))
    pool.join()
    del pool
    before, threads = descriptors(), set(threading.enumerate())  # some of them may be about to end
    for _ in range(5):
        with fork.Pool(2) as pool:
            pool.map(square, range(10))
            assert len(set(threading.enumerate()) - threads) <= 1
        pool.join()
    del pool
    assert descriptors() <= before and not set(threading.enumerate()) - threads


# ---- the end of a program

EXITS = {
    "live pool": "pool = mpfast.get_context('{method}').Pool(2); print(pool.map(abs, range(3)))",
    "work pending": "pool = mpfast.get_context('{method}').Pool(2); r = pool.map_async(time.sleep, [600] * 10); print(1)",
    "closed": "pool = mpfast.get_context('{method}').Pool(2); r = pool.apply_async(abs, (1,)); pool.close(); print(1)",
    "input left": "pool = mpfast.get_context('{method}').Pool(2); r = pool.imap(abs, itertools.count()); print(next(r))",
    "in a cycle": "class A: pass\n    a = A(); a.me = a; a.pool = mpfast.get_context('{method}').Pool(2); print(1)",
    "callbacks": "pool = mpfast.get_context('{method}').Pool(2); pool.map_async(time.sleep, [600], callback=print); print(1)",
    "not by the main thread": "import threading\n    made = []\n    def make():\n        made.append(mpfast.get_context("
                              "'{method}').Pool(2))\n    t = threading.Thread(target=make); t.start(); t.join(); "
                              "print(made[0].map(abs, [1]))",
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", EXITS)
def test_exit_with_a_pool(python, tmp_path, method, case):
    body = EXITS[case].format(method=method)
    (tmp_path / "program.py").write_text(f"import itertools, mpfast, time\nif __name__ == '__main__':\n    {body}\n")
    done = python("program.py")
    assert (done.returncode, done.stderr) == (0, "") and done.stdout != ""


def test_closed_at_the_end_of_a_program(code):
    assert code("""
import atexit
import mpfast
pool = mpfast.get_context("fork").Pool(2)
result = pool.map_async(abs, range(4))

@atexit.register
def end():
    pool.close()
    pool.join()
    print(result.get())
""") == "[0, 1, 2, 3]\n"


INTERRUPTED = """
import os, signal, sys, time
import mpfast
def sleep(ready):
    ready.release()
    time.sleep(600)
def meet(barrier):
    barrier.wait()
if __name__ == "__main__":
    os.setpgid(0, 0)
    context = mpfast.get_context(sys.argv[1])
    ready = context.Semaphore(0)
    with context.Pool(3) as pool:
        pool.map(meet, [context.Barrier(3)] * 3, chunksize=1)  # no interpreter is still starting
        result = pool.map_async(sleep, [ready] * 2, chunksize=1)
        for _ in range(2):
            ready.acquire()
        os.killpg(0, signal.SIGINT)
        result.get()
"""


@pytest.mark.parametrize("method", METHODS)
def test_one_traceback_when_interrupted(python, tmp_path, method):
    (tmp_path / "interrupted.py").write_text(INTERRUPTED)
    done = python("interrupted.py", method)
    assert done.returncode == -signal.SIGINT
    assert done.stderr.count("Traceback") == 1 and done.stderr.count("KeyboardInterrupt") == 1


# ---- other threads, processes and interpreters

def test_a_pool_in_a_thread_and_in_a_worker():
    made = []

    def make():
        with fork.Pool(2) as pool:
            made.append(pool.map(square, range(5)))
    thread = threading.Thread(target=make)
    thread.start()
    thread.join(LONG)
    child = fork.Process(target=make)
    child.start()
    child.join(LONG)
    assert made == [[0, 1, 4, 9, 16]] and child.exitcode == 0


def test_a_pool_belongs_to_its_process(forked):
    child = fork.Process(target=_use_of_parent, args=(forked,))  # inherited, not sent
    child.start()
    child.join(LONG)
    assert child.exitcode == 5
    assert forked.map(square, range(3)) == [0, 1, 4]


def _use_of_parent(pool):
    try:
        pool.apply(square, (1,))
    except RuntimeError:
        os._exit(5)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_close_in_a_forked_child_concerns_the_child_alone(forked):
    assert forked.apply(square, (2,)) == 4
    pid = os.fork()
    if pid == 0:
        forked.close()
        os._exit(threading.active_count() != 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert forked.map(square, range(3)) == [0, 1, 4]


def test_a_pool_in_another_interpreter(code):
    assert code("""
import sys
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
interpreter = interpreters.create("legacy") if sys.version_info >= (3, 13) else interpreters.create(isolated=False)
error = interpreters.run_string(interpreter, '''
import mpfast
pool = mpfast.get_context("spawn").Pool(1)
assert pool.apply(abs, (-3,)) == 3
pool.terminate()
pool.join()
''')
assert error is None, error
print("over")
""") == "over\n"
