"""What a program sees of Process, under each start method: the standard library's, with sentinels that are pidfds."""
import os
import select
import signal
import time

import pytest

import mpfast
from mpfast import _native
from mpfast.connection import wait

from conftest import METHODS

pytestmark = pytest.mark.skipif(not _native.ENABLED, reason="needs the native part")

PROGRAM = """
import multiprocessing
import os
import sys
import time
import signal

def leave(how):
    if how == "message":
        sys.exit("a message")
    if how == "error":
        raise KeyError("an error")
    if how == "signal":
        os.kill(os.getpid(), signal.SIGUSR1)
    if how == "os._exit":
        os._exit(9)
    sys.exit(how)

def look():
    me, parent = multiprocessing.current_process(), multiprocessing.parent_process()
    print(type(me).__name__, me.name, me.daemon, me.exitcode, parent.name, parent.pid == os.getppid() or method, parent.is_alive())
    print(parent, me.pid == os.getpid(), multiprocessing.active_children(), repr(sys.stdin.read()))
    print(sys.argv, os.path.basename(os.getcwd()), multiprocessing.get_start_method())
    try:
        parent.join(0.01)
    finally:
        print("flushed at the end", end="")

class Derived(multiprocessing.Process):
    def run(self):
        print("run", self.name, self.args)

def sleep():
    time.sleep(600)

method = sys.argv[1]

if __name__ == "__main__":
    multiprocessing.set_start_method(method)
    Process = multiprocessing.Process
    for how in None, 0, 3, 300, "message", "error", "signal", "os._exit":
        p = Process(target=leave, args=(how,))
        print(p.exitcode, p.is_alive(), p.pid, p.name)
        p.start()
        p.join()
        print(how, p.exitcode, p.is_alive(), str(p).replace(str(p.pid), "PID").replace(str(os.getpid()), "PARENT"))
    p = Process(target=look, name="looker", daemon=True)
    sys.stdout.flush()
    p.start()
    p.join()
    d = Derived()
    d.args = 1, 2
    d.start()
    d.join()
    p = Process(target=sleep)
    for use in ("p.join()", "p.sentinel", "p.terminate()", "p.close(); p.start()", "d.start()"):
        try:
            exec(use)
        except Exception as exc:
            print(use, type(exc).__name__, exc)
    p = Process(target=sleep)
    p.start()
    print(p.join(0.01), p.join(0), p.exitcode, p.is_alive(), multiprocessing.active_children() == [p])
    try:
        p.close()
    except ValueError as exc:
        print(exc)
    p.terminate()
    p.join()
    print(p.exitcode, multiprocessing.active_children())
    p.terminate()
    p.close()
    print(str(p).replace(str(os.getpid()), "PARENT"))
"""


@pytest.mark.parametrize("method", METHODS)
def test_a_process_is_as_in_the_standard_library(same, method):
    assert same(PROGRAM.replace("parent.pid == os.getppid() or method", "method"), method).status == 0


ENDING = """
import atexit
import multiprocessing
import multiprocessing.util
import sys
import threading
import time

def work():
    atexit.register(print, "atexit")
    multiprocessing.util.Finalize(None, print, ("finalizer",), exitpriority=1)
    print("work", file=sys.stderr)
    threading.Thread(target=lambda: (time.sleep(0.05), print("thread", file=sys.stderr))).start()

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    print("buffered", end=" ")
    p = multiprocessing.Process(target=work)
    p.start()
    p.join()
"""


@pytest.mark.parametrize("method", METHODS)
def test_what_runs_at_the_end_of_a_child(same, method):
    same(ENDING, method)


UNGUARDED = """
import multiprocessing
import sys
multiprocessing.set_start_method(sys.argv[1], force=True)
p = multiprocessing.Process(target=print)
p.start()
p.join()
print(p.exitcode)
"""


@pytest.mark.parametrize("method", ("spawn", "forkserver"))
def test_a_main_module_that_starts_processes_when_imported_is_told_so(python, tmp_path, method):
    (tmp_path / "program.py").write_text(UNGUARDED)
    messages = [python(*how, "program.py", method).stderr for how in ((), ("-m", "mpfast"))]
    ends = [message[message.index("RuntimeError"):].partition("Traceback")[0] for message in messages]
    assert ends[0] == ends[1]


def nothing():
    pass


def wait_for(connection):
    connection.poll(None)


@pytest.fixture(params=METHODS)
def running(request):
    """A process that runs until the test ends."""
    ctx = mpfast.get_context(request.param)
    theirs, ours = ctx.Pipe()
    process = ctx.Process(target=wait_for, args=(theirs,))
    process.start()
    yield process
    ours.send(None)
    process.join()
    process.close()


def is_pidfd(descriptor):
    return os.readlink(f"/proc/self/fd/{descriptor}") == "anon_inode:[pidfd]"


def test_a_sentinel_is_a_pidfd_that_can_be_waited_for(running):
    assert is_pidfd(running.sentinel)
    assert wait([running.sentinel], 0) == []
    assert select.select([running.sentinel], [], [], 0)[0] == []
    running.kill()
    assert wait([running.sentinel]) == [running.sentinel]
    assert select.select([running.sentinel], [], [])[0] == [running.sentinel]
    assert not running.is_alive()
    assert running.exitcode == -signal.SIGKILL


def test_a_child_that_was_waited_for_is_not_signalled_again(running):
    running.kill()
    running.join()
    running.terminate()
    running.kill()
    running.interrupt()
    assert running.exitcode == -signal.SIGKILL


def test_a_sentinel_that_the_program_has_closed(running):
    os.close(os.dup(running.sentinel))
    replaced = os.open(os.devnull, os.O_RDONLY)
    kept = os.dup(running.sentinel)
    os.dup2(replaced, running.sentinel)
    running.kill()
    os.dup2(kept, running.sentinel)
    os.close(replaced)
    os.close(kept)
    running.join()
    assert running.exitcode == -signal.SIGKILL


def wait_for_interrupt(connection):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs have it ignored
    try:
        connection.send("ready")
        end = time.monotonic() + 60
        while time.monotonic() < end:
            time.sleep(0.01)  # one that comes right before a sleep is seen after it
    except KeyboardInterrupt:
        raise SystemExit(5)


@pytest.mark.parametrize("method", METHODS)
def test_interrupt_is_ctrl_c_for_the_child(method):
    ctx = mpfast.get_context(method)
    theirs, ours = ctx.Pipe()
    process = ctx.Process(target=wait_for_interrupt, args=(theirs,))
    process.start()
    assert ours.recv() == "ready"
    process.interrupt()
    process.join()
    assert process.exitcode == 5
    process.close()
    with pytest.raises(ValueError, match="closed"):
        process.interrupt()


def test_a_status_that_somebody_else_took():
    process = mpfast.get_context("fork").Process(target=nothing)
    process.start()
    os.waitpid(process.pid, 0)
    process.join()
    process.join(5)
    process.terminate()
    assert process.exitcode is None


def test_children_that_nobody_has_to_wait_for():
    former = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        process = mpfast.get_context("fork").Process(target=nothing)
        process.start()
        process.join()
        process.join(5)
    finally:
        signal.signal(signal.SIGCHLD, former)


@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_left_open(method):
    ctx = mpfast.get_context(method)

    def start_and_close():
        process = ctx.Process(target=nothing)
        process.start()
        process.join()
        process.close()

    start_and_close()
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        start_and_close()
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_without_pidfds_the_standard_library_does_it(code):
    assert code("""
import os
del os.pidfd_open
import mpfast, mpfast.popen_fork, multiprocessing.popen_fork
assert mpfast.popen_fork.Popen is multiprocessing.popen_fork.Popen
for method in mpfast.get_all_start_methods():
    p = mpfast.get_context(method).Process(target=len, args=((),))
    p.start()
    p.join()
    print(method, p.exitcode)
""") == "".join(f"{method} 0\n" for method in mpfast.get_all_start_methods())
