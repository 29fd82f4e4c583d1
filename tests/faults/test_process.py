"""Processes whose parent, whose fork server or which themselves are killed at any time."""
import os
import select
import signal
import subprocess
import sys
import time

import pytest

import mpfast
from mpfast import popen_fork
from .crew import LONG

pytestmark = pytest.mark.skipif(not hasattr(popen_fork, "watching"), reason="needs pidfds")

METHODS = ("fork", "spawn", "forkserver")
SECOND = 1.0
TRIES = 4  # of what takes a second at most, unless others keep the machine from it

PARENT = """
import os
import sys
import time
import mpfast
from mpfast.concurrent.futures import ProcessPoolExecutor

def run(queue):
    queue.put(os.getpid())
    time.sleep(600)

def square(x):
    return x * x

if __name__ == "__main__":
    method, count, daemon = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "daemonic"
    ctx = mpfast.get_context(method)
    queue = ctx.Queue()
    if sys.argv[3] == "pool":
        pool = ctx.Pool(count)
        results = [pool.apply_async(run, (queue,)) for _ in range(count)]
    elif sys.argv[3] == "executor":
        executor = ProcessPoolExecutor(count, ctx)
        results = [executor.submit(run, queue) for _ in range(count)]
    else:
        results = ()
    for _ in range(count - len(results)):
        process = ctx.Process(target=run, args=(queue,), daemon=sys.argv[3] != "ordinary")
        if sys.argv[3] == "outliving":
            process.outlive_parent = True
        process.start()
    pids = [queue.get() for _ in range(count)]
    if daemon:
        pool = ctx.Pool(3)
        assert pool.map(square, range(10)) == [x * x for x in range(10)]
        pids += [worker.pid for worker in pool._pool]
    if method == "forkserver":
        from mpfast._zygote import zygote
        pids.insert(0, zygote.pid)
    print(*pids, flush=True)
    time.sleep(600)
"""


class Family:
    """A program that has started processes and waits."""

    def __init__(self, tmp_path, method, count, daemonic="daemonic"):
        (tmp_path / "program.py").write_text(PARENT)
        root = os.path.dirname(os.path.dirname(mpfast.__file__))
        environment = dict(os.environ, PYTHONPATH=os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]))
        self.parent = subprocess.Popen([sys.executable, "program.py", method, str(count), daemonic], cwd=tmp_path,
                                       stdout=subprocess.PIPE, env=environment)
        self.pids = [int(pid) for pid in self.parent.stdout.readline().split()]
        assert len(self.pids) >= count
        self.pidfds = [os.pidfd_open(pid) for pid in self.pids]
        self.arenas = self.maps()

    def maps(self):
        """The files in memory that a child has mapped."""
        with open(f"/proc/{self.pids[-1]}/maps") as maps:
            return {line.split()[4] for line in maps if "memfd:mpfast" in line}

    def kill_parent(self, sig=signal.SIGKILL):
        self.parent.send_signal(sig)
        assert self.parent.wait() == -sig

    def running(self, timeout):
        """The pids of those that still run after so many seconds."""
        poll = select.poll()
        left = dict(zip(self.pidfds, self.pids))
        for pidfd in left:
            poll.register(pidfd, select.POLLIN)
        while left and (ended := poll.poll(timeout * 1000)):
            for pidfd, _ in ended:
                poll.unregister(pidfd)
                del left[pidfd]
        return list(left.values())

    def close(self):
        for pid, pidfd in zip(self.pids, self.pidfds):
            try:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            except ProcessLookupError:
                pass
            os.close(pidfd)
        self.parent.kill()
        self.parent.wait()
        self.parent.stdout.close()


@pytest.fixture
def family(tmp_path):
    families = []

    def make(*args):
        families.append(Family(tmp_path, *args))
        return families[-1]

    yield make
    for made in families:
        made.close()


def leftovers():
    """Names in /dev/shm that the standard library or this package would have made."""
    return {name for name in os.listdir("/dev/shm") if name.startswith(("psm_", "mp-", "sem.mp", "mpfast", "pym-"))}


def staying(names):
    """Those that are not taken away, as other programs do with theirs that happen to be there."""
    deadline = time.monotonic() + LONG
    while names and time.monotonic() < deadline:
        time.sleep(0.05)
        names = names & leftovers()
    return names


def mappers(inodes):
    """The processes that have one of these files mapped."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/maps") as maps:
                if any("memfd:mpfast" in line and line.split()[4] in inodes for line in maps):
                    found.append(pid)
        except OSError:
            continue
    return found


@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_left_of_a_killed_parent_with_daemonic_children_and_a_pool(family, method):
    before = leftovers()
    for _ in range(TRIES):
        made = family(method, 50 if method != "spawn" else 10)
        made.kill_parent()
        late = made.running(SECOND)
        assert made.running(LONG) == []
        assert mappers(made.arenas) == []
        assert staying(leftovers() - before) == set()
        if not late:
            return
    pytest.fail(f"{late} were still there after a second, {TRIES} times out of {TRIES}")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("sig", (signal.SIGTERM, signal.SIGSEGV))
def test_whatever_killed_the_parent(family, method, sig):
    made = family(method, 2)
    made.kill_parent(sig)
    assert made.running(LONG) == []


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ("pool", "executor"))
def test_workers_that_are_busy_end_with_their_parent(family, method, kind):
    made = family(method, 2, kind)
    made.kill_parent()
    assert made.running(LONG) == []


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ("ordinary", "outliving"))
def test_children_that_are_not_daemonic_or_are_to_outlive_their_parent_are_left_alone(family, method, kind):
    made = family(method, 2, kind)
    made.kill_parent()
    children = made.pids[-2:]
    assert [pid for pid in made.running(0.2) if pid in children] == children


def test_daemonic_children_end_with_their_parent_when_the_fork_server_has_gone_before(family):
    made = family("forkserver", 2)
    os.kill(made.pids[0], signal.SIGKILL)
    assert select.select([made.pidfds[0]], [], [], LONG)[0]
    children = made.pids[1:3]
    assert [pid for pid in made.running(0.2) if pid in children] == children
    made.kill_parent()
    assert made.running(LONG) == []


def nothing():
    pass


def test_a_fork_server_that_is_killed_while_it_serves():
    from mpfast._zygote import zygote
    ctx = mpfast.get_context("forkserver")
    for _ in range(10):
        zygote.ensure_running()
        processes = [ctx.Process(target=nothing) for _ in range(4)]
        for process in processes[:2]:
            process.start()
        os.kill(zygote.pid, signal.SIGKILL)
        for process in processes[2:]:
            process.start()
        for process in processes:
            process.join(LONG)
            assert process.exitcode in (0, 255)
            process.close()
