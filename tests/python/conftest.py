"""Running small programs in interpreters of their own, on the standard library and on mpfast; pools, crews and executors."""
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

import mpfast

ROOT = pathlib.Path(mpfast.__file__).resolve().parent.parent

METHODS = ("fork", "spawn", "forkserver")

# The standard library's fork server has a socket in a directory; the name of that is all that it logs.
SOCKET_DIRECTORY = re.compile(r"\[INFO/MainProcess\] created temp directory .*\n")
# What the standard library's pool prints at the end of a program, without a global lock.
COMPLAINT = re.compile(r"Exception ignored in: <function Pool\.__del__ at .*>\nTraceback .*\n(  .*\n)+AttributeError: .*\n")
RANDOM_NAME = re.compile(r"pymp-\w+|0x[0-9a-f]+")


@pytest.fixture
def python(tmp_path):
    """Function (arguments, stdin="", **environment) that runs the interpreter in a directory of its own."""

    def run(*arguments, stdin="", **environment):
        return subprocess.run([sys.executable, *map(str, arguments)], input=stdin, capture_output=True, text=True,
                              cwd=tmp_path, timeout=120, env=child_environment(**environment))

    return run


@pytest.fixture
def standard(tmp_path):
    """Function (arguments, stdin="") as python(), for a program with the standard library's multiprocessing.

    Its pool hangs now and then, as when the finalizer of one that was collected runs in a thread that it then waits for.
    Such a program is ended with its workers, and run again.
    """

    def run(*arguments, stdin=""):
        command = [sys.executable, *map(str, arguments)]
        for _ in range(3):
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                       text=True, cwd=tmp_path, env=child_environment(), start_new_session=True)
            try:
                output = process.communicate(stdin, timeout=60)
                return subprocess.CompletedProcess(command, process.returncode, *output)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
        return pytest.fail(f"the standard library hangs: {arguments}")

    return run


def child_environment(**changes):
    environment = {name: value for name, value in os.environ.items()
                   if not name.startswith("MPFAST_") and name != "PYTHONUNBUFFERED"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    environment.update(changes)
    return environment


@pytest.fixture
def code(python):
    """Function (source) that runs code and returns what it printed; any other end than 0 fails the test."""

    def run(source, **environment):
        done = python("-c", source, **environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


MARKED = """
class Marked:
    def __enter__(self):
        open("/dev/null").close()

    def __exit__(self, *_):
        open("/dev/null").close()

marked = Marked()
"""


@pytest.fixture
def system_calls(tmp_path):
    """Function (source) that runs code and returns the system calls it makes inside its "with marked" block."""
    trace = tmp_path / "trace"
    try:
        subprocess.run(["strace", "-o", str(trace), "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("strace is not to be had")

    def run(source):
        subprocess.run(["strace", "-o", str(trace), sys.executable, "-c", MARKED + source], check=True, timeout=120,
                       env=child_environment())
        lines = trace.read_text().splitlines()
        begin, end = [i for i, line in enumerate(lines) if '"/dev/null"' in line][-2:]
        return [line for line in lines[begin + 1:end]
                if not line.startswith(("newfstatat", "fstat", "ioctl", "lseek", "close", "---"))]

    return run


class Interrupted(Exception):
    """Raised by the handler of a signal."""


@pytest.fixture
def interrupt():
    """Function (call) that runs call, which would block for ever and has to end when a signal's handler raises."""
    def handler(*_):
        raise Interrupted

    def run(call):
        with pytest.raises(Interrupted):
            # Inside, as it may come early where the machine is busy.
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGUSR1)).start()
            call()

    former = signal.signal(signal.SIGUSR1, handler)
    yield run
    signal.signal(signal.SIGUSR1, former)


class Outcome:
    """What a user sees of a program."""

    def __init__(self, done):
        self.status = done.returncode
        self.stdout = done.stdout
        self.stderr = RANDOM_NAME.sub("RANDOM", SOCKET_DIRECTORY.sub("", done.stderr))

    def __eq__(self, other):
        return (self.status, self.stdout, self.stderr) == (other.status, other.stdout, other.stderr)

    def __repr__(self):
        return f"status {self.status}\n--- stdout\n{self.stdout}--- stderr\n{self.stderr}"


@pytest.fixture
def same(python, standard, tmp_path):
    """Function (source, *arguments) that runs a program in each way and fails where they differ.

    The program says ``import multiprocessing``; the way "import" turns that into ``import mpfast as multiprocessing``.
    Returns the one outcome.
    """

    def run(source, *arguments, stdin=""):
        program = tmp_path / "program.py"
        program.write_text(source)
        expected = Outcome(standard("program.py", *arguments, stdin=stdin))
        expected.stderr = COMPLAINT.sub("", expected.stderr)
        installed = Outcome(python("-m", "mpfast", "program.py", *arguments, stdin=stdin))
        assert installed == expected
        program.write_text(source.replace("import multiprocessing\n", "import mpfast as multiprocessing\n")
                           .replace("from multiprocessing", "from mpfast"))
        imported = Outcome(python("program.py", *arguments, stdin=stdin))
        assert imported == expected
        return expected

    return run


def sleeps(processes, thread):
    """Whether neither the *processes* nor this *thread* of ours was woken for half a second."""
    def switches():
        found = []
        statuses = [f"/proc/{process.pid}/status" for process in processes]
        for path in [*statuses, f"/proc/self/task/{thread.native_id}/status"]:
            with open(path) as f:
                found += [line for line in f if "ctxt_switches" in line]
        return found
    before = switches()
    time.sleep(0.5)
    return switches() == before


@pytest.fixture(params=METHODS)
def pool(request):
    with mpfast.get_context(request.param).Pool(2) as pool:
        yield pool


@pytest.fixture
def forked():
    """A pool of two forked workers."""
    with mpfast.get_context("fork").Pool(2) as pool:
        yield pool


@pytest.fixture
def team():
    """A crew without workers as yet, which do not outlive the test."""
    from crew_team import Team
    team = Team()
    yield team
    team.stop()


@pytest.fixture
def executor():
    """An executor of two forked workers."""
    from mpfast.concurrent.futures import ProcessPoolExecutor
    with ProcessPoolExecutor(2, mp_context=mpfast.get_context("fork")) as executor:
        yield executor
