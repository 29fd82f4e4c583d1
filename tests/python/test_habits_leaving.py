"""Habits of real programs: how processes leave, and what they leave behind."""
import os
import pathlib
import subprocess
import sys
import time
import uuid

import pytest
from conftest import METHODS, child_environment

START = """
import multiprocessing
import atexit, os, signal, sys, time
from multiprocessing import util

def run(target, *args, method=None):
    worker = multiprocessing.get_context(method or sys.argv[1]).Process(target=target, args=args)
    worker.start()
    worker.join()
    return worker.exitcode
"""


@pytest.mark.parametrize("method", METHODS)
def test_output_is_flushed_at_a_normal_exit(same, method):
    done = same(START + """
def write():
    sys.stdout.write("out of the child, no newline;")
    sys.stderr.write("err of the child;")
if __name__ == "__main__":
    run(write)
""", method)
    assert (done.stdout, done.stderr) == ("out of the child, no newline;", "err of the child;")


@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_printed_twice(same, method):
    assert same(START + """
def nothing():
    pass
if __name__ == "__main__":
    sys.stdout.write("buffered before the start;")
    run(nothing)
    with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
        sys.stdout.write("buffered before the pool;")
        pool.map(abs, range(4))
""", method).stdout == "buffered before the start;buffered before the pool;"


@pytest.mark.parametrize("method", METHODS)
def test_output_is_lost_by_terminate(same, method):
    assert same(START + """
def write(ready):
    sys.stdout.write("lost")
    ready.set()
    time.sleep(60)
if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    ready = context.Event()
    worker = context.Process(target=write, args=(ready,))
    worker.start()
    ready.wait()
    worker.terminate()
    worker.join()
    print(worker.exitcode)
""", method).stdout == "-15\n"


@pytest.mark.parametrize("method", METHODS)
def test_atexit_in_children(same, method):
    same(START + """
def child():
    atexit.register(print, "registered in the child")
atexit.register(print, "registered at import by", __name__)
if __name__ == "__main__":
    atexit.register(print, "registered in the parent")
    print(run(child))
""", method)


@pytest.mark.parametrize("method", METHODS)
def test_finalizers_and_their_priorities(same, method):
    assert same(START + """
class Thing:
    pass
def child():
    keep = [Thing() for _ in range(4)]
    for number, priority in enumerate([5, 20, None, 10]):
        util.Finalize(keep[number], print, args=("finalizer", priority), kwargs={"flush": True}, exitpriority=priority)
    util.Finalize(None, print, args=("no object",), kwargs={"flush": True}, exitpriority=15)
    globals()["kept"] = keep
if __name__ == "__main__":
    print(run(child))
""", method).stdout.splitlines()[:4] == ["finalizer 20", "no object", "finalizer 10", "finalizer 5"]


def test_the_exit_function_called_by_hand(same):
    assert same(START + """
def child(ready):
    ready.set()
    time.sleep(60)
if __name__ == "__main__":
    ready = multiprocessing.Event()
    worker = multiprocessing.Process(target=child, args=(ready,), daemon=True)
    worker.start()
    ready.wait()
    util.Finalize(None, print, args=("finalizer",), exitpriority=1)
    util._exit_function()
    print(worker.exitcode, multiprocessing.active_children(), util.is_exiting())
""").stdout == "finalizer\n-15 [] True\n"


@pytest.mark.parametrize("method", METHODS)
def test_log_to_stderr(same, method):
    log = same(START + """
import logging
def child():
    util.info("from the child")
if __name__ == "__main__":
    multiprocessing.log_to_stderr(logging.INFO)
    print(multiprocessing.get_logger() is util.get_logger())
    run(child)
""", method).stderr
    assert "child process calling self.run()" in log and "from the child" in log


ENDINGS = {
    "return": "return 5",
    "exit": "sys.exit(5)",
    "exit message": "sys.exit('a message')",
    "error": "raise ValueError('in the child')",
    "interrupt": "raise KeyboardInterrupt",
    "_exit": "os._exit(6)",
    "kill": "os.kill(os.getpid(), signal.SIGKILL)",
    "thread": "import threading; threading.Thread(target=lambda: (time.sleep(.1), print('thread done'))).start()",
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("ending", ENDINGS)
def test_how_children_end(same, method, ending):
    same(START + f"""
def child():
    {ENDINGS[ending]}
if __name__ == "__main__":
    print(run(child))
""", method)


@pytest.mark.parametrize("method", METHODS)
def test_handlers_run_while_the_main_thread_waits(same, method):
    """Only the handler can end the wait."""
    assert same(START + """
if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    semaphore = context.Semaphore(0)
    signal.signal(signal.SIGALRM, lambda *_: semaphore.release())
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    print(semaphore.acquire())
    class Stop(Exception):
        pass
    def stop(*_):
        raise Stop
    signal.signal(signal.SIGALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        context.Semaphore(0).acquire()
    except Stop:
        print("stopped")
""", method).stdout == "True\nstopped\n"


BUSY_PROGRAM = START + """
from concurrent.futures import ProcessPoolExecutor

def work(number):
    return number * number

def forever(queue):
    queue.put("here")
    time.sleep(600)

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    queue = context.Queue()
    daemon = context.Process(target=forever, args=(queue,), daemon=True)
    daemon.start()
    print(queue.get())
    pool = context.Pool(2)                      # never closed
    print(pool.map(work, range(5)))
    manager = context.Manager()                 # never shut down
    shared = manager.dict(a=1)
    print(shared.copy())
    executor = ProcessPoolExecutor(1, mp_context=context)
    print(list(executor.map(work, range(3))))
    value, lock = context.Value("d", 1.5), context.RLock()
    with lock, value.get_lock():
        value.value += 1
    print(value.value)
    queue.put("nobody gets this")
"""


@pytest.mark.parametrize("method", METHODS)
def test_nothing_on_stderr(same, method):
    assert same(BUSY_PROGRAM, method).stderr == ""


@pytest.mark.parametrize("method", METHODS)
def test_no_process_is_left_five_seconds_after_the_end(tmp_path, method):
    mark = uuid.uuid4().hex
    (tmp_path / "program.py").write_text(BUSY_PROGRAM)
    subprocess.run([sys.executable, "-m", "mpfast", "program.py", method], cwd=tmp_path, check=True, timeout=120,
                   stdout=subprocess.DEVNULL, env=child_environment(PROGRAM_MARK=mark))
    deadline = time.monotonic() + 5
    while (left := marked_processes(mark)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left


def marked_processes(mark):
    found = []
    for directory in pathlib.Path("/proc").iterdir():
        if directory.name.isdigit() and int(directory.name) != os.getpid():
            try:
                if mark.encode() in (directory / "environ").read_bytes():
                    found.append((directory / "cmdline").read_bytes())
            except OSError:
                continue
    return found
