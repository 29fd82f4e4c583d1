"""ProcessPoolExecutor: shutdown, and the end of a program with an executor."""
import gc
import os
import threading

import pytest
from executor_tasks import LONG, Blocked, context, eventually, identity

import mpfast
from mpfast import _native
from mpfast.concurrent.futures import ProcessPoolExecutor


def test_shutdown(executor):
    futures = [executor.submit(identity, i) for i in range(200)]
    processes = dict(executor._processes)
    executor.shutdown()
    executor.shutdown()
    assert [future.result(0) for future in futures] == list(range(200))
    assert all(process.exitcode == 0 for process in processes.values())
    assert executor._processes is None
    for call in (lambda: executor.submit(identity, 1), lambda: executor.map(identity, [1])):
        with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
            call()


def test_shutdown_without_use():
    ProcessPoolExecutor(2, mp_context=context).shutdown()
    with ProcessPoolExecutor(2) as executor:
        assert executor._processes == {}


def test_shutdown_without_waiting():
    with Blocked() as blocked:
        futures = [blocked.executor.submit(identity, i) for i in range(20)]
        thread, processes = blocked.executor._executor_manager_thread, blocked.executor._processes
        blocked.executor.shutdown(wait=False)
        assert not blocked.first.done()
        blocked.release()
        assert [future.result(LONG) for future in futures] == list(range(20))
        thread.join(LONG)
        assert not thread.is_alive()
        for process in processes.values():
            process.join(LONG)
            assert process.exitcode == 0


def test_shutdown_that_cancels():
    with Blocked() as blocked:
        futures = [blocked.executor.submit(identity, i) for i in range(50)]
        release = threading.Thread(target=lambda: (eventually(futures[-1].cancelled), blocked.release()))
        release.start()
        blocked.executor.shutdown(cancel_futures=True)
        release.join()
        assert blocked.first.result(0) == "waited"
        assert all(future.done() for future in futures)
        assert sum(future.cancelled() for future in futures) >= 45


def test_a_collected_executor_finishes_its_tasks():
    executor = ProcessPoolExecutor(2, mp_context=context)
    futures = [executor.submit(identity, i) for i in range(50)]
    results = executor.map(identity, range(50))
    thread, processes = executor._executor_manager_thread, executor._processes
    del executor
    gc.collect()
    assert [future.result(LONG) for future in futures] == list(results) == list(range(50))
    thread.join(LONG)
    assert not thread.is_alive()
    for process in processes.values():
        process.join(LONG)
        assert process.exitcode == 0


PENDING_AT_EXIT = """
import sys, time
from mpfast.concurrent.futures import ProcessPoolExecutor

def say(i):
    time.sleep(0.05)
    print("done", i, flush=True)

if __name__ == "__main__":
    import mpfast
    executor = ProcessPoolExecutor(2, mp_context=mpfast.get_context("fork"))
    futures = [executor.submit(say, i) for i in range(6)]
    if sys.argv[1] == "callback":
        futures[-1].add_done_callback(lambda future: print("done", "callback", flush=True))
    elif sys.argv[1] == "collected":
        del executor, futures
    elif sys.argv[1] == "no wait":
        executor.shutdown(wait=False)
    elif sys.argv[1] == "error":
        raise SystemExit(3)
"""


@pytest.mark.parametrize("way", ["kept", "callback", "collected", "no wait", "error"])
def test_the_end_of_a_program_waits_for_its_tasks(python, tmp_path, way):
    program = tmp_path / "program.py"
    program.write_text(PENDING_AT_EXIT)
    done = python(program, way)
    assert done.stderr == ""
    assert done.returncode == (3 if way == "error" else 0)
    expected = {f"done {i}" for i in range(6)} | ({"done callback"} if way == "callback" else set())
    assert set(done.stdout.splitlines()) == expected


def test_submit_at_the_end_of_the_program_is_refused(python, tmp_path):
    program = tmp_path / "program.py"
    program.write_text("""
import atexit
from mpfast.concurrent.futures import ProcessPoolExecutor

def last():
    try:
        executor.submit(id, None)
    except RuntimeError as exc:
        print(exc)

if __name__ == "__main__":
    atexit.register(last)
    executor = ProcessPoolExecutor(1)
    executor.submit(id, 1).result()
""")
    done = python(program)
    assert done.stdout.startswith("cannot schedule new futures after ") and done.stderr == ""


def test_an_executor_leaves_nothing(executor):
    def use():
        with ProcessPoolExecutor(2, mp_context=context) as used:
            assert list(used.map(identity, range(100))) == list(range(100))
            used.submit(identity, 1).result(LONG)

    def figures():
        gc.collect()
        blocks = mpfast._core.stats()["blocks"].values() if _native.ENABLED else ()
        return threading.active_count(), len(os.listdir("/proc/self/fd")), sum(blocks)

    executor.submit(identity, 1).result(LONG)
    use()
    before = figures()
    for _ in range(5):
        use()
    # Fewer is no leak: what other tests have left may go meanwhile.
    eventually(lambda: all(now <= then for now, then in zip(figures(), before)))
