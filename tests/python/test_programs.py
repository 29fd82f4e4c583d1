"""Whole programs, unchanged: what a user sees of them is what the standard library shows, and nothing stays behind."""
import functools
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import uuid

import pytest

from conftest import METHODS, child_environment

PROGRAMS = pathlib.Path(__file__).resolve().parent.parent / "programs"
MARK = "PROGRAM_UNDER_TEST"
SECONDS = 90            # a program that takes this long hangs
SECONDS_AFTER_END = 5   # what may still be ending when the program has ended
RUNS = 4                # of a program on the standard library, until one shows what is expected


def names():
    return sorted(path.stem for path in PROGRAMS.glob("use_*.py"))


def living(mark):
    """The processes that carry this mark in their environment, as a dictionary of pid to command line."""
    wanted = f"{MARK}={mark}".encode()
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/environ", "rb") as f:
                    marked = wanted in f.read().split(b"\0")
                with open(f"/proc/{entry}/cmdline", "rb") as f:
                    command = f.read().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if marked and command:      # a zombie has no command line
                found[int(entry)] = command
    return found


def end_all(mark):
    for pid in living(mark):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


class Seen:
    """What is to be seen of a program: exit status, output, messages, processes that stay."""

    def __init__(self, arguments, directory):
        mark = uuid.uuid4().hex
        command = [sys.executable, *map(str, arguments)]
        # Files, not pipes: a process that stays behind would keep a pipe open, and us waiting.
        with open(directory / f"{mark}.out", "w+b") as out, open(directory / f"{mark}.err", "w+b") as err:
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=directory,
                                     env=child_environment(**{MARK: mark}), start_new_session=True)
            try:
                self.status = child.wait(SECONDS)
                deadline = time.monotonic() + SECONDS_AFTER_END
                while living(mark) and time.monotonic() < deadline:
                    time.sleep(0.02)
                self.left = sorted(living(mark).values())
            except subprocess.TimeoutExpired:
                self.status, self.left = "hangs", []
            finally:
                end_all(mark)
                child.wait()
            out.seek(0)
            err.seek(0)
            self.stdout = out.read().decode()
            self.stderr = essential(err.read().decode())

    def __eq__(self, other):
        return vars(self) == vars(other)

    def __repr__(self):
        return "\n".join(f"--- {name}\n{value}" for name, value in vars(self).items())


def essential(stderr):
    """Messages without what differs from run to run, and without the frames of tracebacks."""
    lines = [line for line in stderr.splitlines() if not line.startswith("  ")]
    return [re.sub(r"0x[0-9a-f]+|\bpid \d+|<\d+>", "#", line) for line in lines]


@pytest.fixture(scope="module")
def on_the_stdlib(tmp_path_factory):
    directory = tmp_path_factory.mktemp("stdlib")
    seen = functools.lru_cache(maxsize=None)(lambda name, method, run: Seen([PROGRAMS / f"{name}.py", method], directory))
    return lambda name, method, run=0: seen(name, method, run)


def assert_is_as(on_the_stdlib, name, method, seen):
    """What is *seen* is what is to be seen of the program on the standard library, in one of some runs.

    One whose children are still starting when it ends, because the machine is busy, does not end there as it does otherwise.
    """
    for run in range(RUNS):
        expected = on_the_stdlib(name, method, run)
        if seen == expected:
            break
    assert seen == expected


def substituted(source):
    """The program as its author would write it for mpfast."""
    source = re.sub(r"^import multiprocessing$", "import mpfast as multiprocessing", source, flags=re.M)
    source = re.sub(r"^from multiprocessing\b", "from mpfast", source, flags=re.M)
    source = re.sub(r"^from concurrent\.futures\b", "from mpfast.concurrent.futures", source, flags=re.M)
    return re.sub(r"^import concurrent\.futures$", "import mpfast, mpfast.concurrent.futures\nconcurrent = "
                  "mpfast.concurrent", source, flags=re.M)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", names())
def test_a_program_under_the_command_line(name, method, on_the_stdlib, tmp_path):
    assert_is_as(on_the_stdlib, name, method, Seen(["-m", "mpfast", PROGRAMS / f"{name}.py", method], tmp_path))


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("name", names())
def test_a_program_that_imports_mpfast_in_the_place_of_multiprocessing(name, method, on_the_stdlib, tmp_path):
    program = tmp_path / f"{name}.py"
    program.write_text(substituted((PROGRAMS / f"{name}.py").read_text()))
    assert_is_as(on_the_stdlib, name, method, Seen([program, method], tmp_path))


@pytest.mark.parametrize("name", names())
def test_a_program_prints_the_same_under_every_start_method(name, on_the_stdlib):
    assert on_the_stdlib(name, "fork").left == []
    if name != "use_failing":       # it tells of the child's end before its own, which the start methods time apart
        assert {on_the_stdlib(name, method).status for method in METHODS} == {0}
        assert len({on_the_stdlib(name, method).stdout for method in METHODS}) == 1
