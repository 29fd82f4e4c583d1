"""Counting instead of timing: system calls (strace) and instructions (perf, or cachegrind) of a row's work."""
from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
import tempfile

from benchmarks.registry import Unavailable

#: What a watched process writes to a descriptor that does not exist, before and after the work.
MARK = b"benchmark-mark"
NO_DESCRIPTOR = 987654

#: Exit status of a watched process whose implementation cannot do the work.
UNAVAILABLE = 77

WORKER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "worker.py")


def _run(tool, mode, name, key, n, timeout):
    command = [*tool, sys.executable, WORKER, mode, name, key, str(n)]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=timeout,
                          env=environment)
    if done.returncode == UNAVAILABLE:
        raise Unavailable(done.stdout.strip())
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stderr


def _temporary_file():
    return tempfile.NamedTemporaryFile("r", prefix="benchmark-", errors="replace")


def require_strace():
    """Raises Unavailable where strace is missing or not permitted."""
    if not _strace_works():
        raise Unavailable("strace is missing or not permitted")


@functools.lru_cache(maxsize=None)
def _strace_works():
    if not shutil.which("strace"):
        return False
    return subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True).returncode == 0


def system_calls(name, key, n, timeout=120):
    """System calls that all threads and children make while implementation `name` does a row's work n times."""
    require_strace()
    with _temporary_file() as log:
        _run(["strace", "-f", "-qq", "-o", log.name], "marked", name, key, n, timeout)
        return count_between_marks(log)


def count_between_marks(lines):
    """Number of system calls that strace's `lines` show between the two marks.

    A call that was interrupted by another thread's stands on two lines and counts once; signals do not count.
    Raises ValueError unless there are exactly two marks.
    """
    marks = count = 0
    for line in lines:
        if MARK.decode() in line:
            marks += 1
        elif marks == 1 and "resumed>" not in line and "---" not in line and "+++" not in line:
            count += 1
    if marks != 2:
        raise ValueError(f"{marks} marks instead of 2")
    return count


def instructions(name, key, few, many, timeout=600):
    """Instructions in user mode for one unit of a row's work: the difference of `many` and `few` units."""
    tool = _instruction_tool()
    difference = tool(name, key, many, timeout) - tool(name, key, few, timeout)
    # once() does the work twice: to warm up, and to be watched.
    return difference / (2 * (many - few))


@functools.lru_cache(maxsize=None)
def _instruction_tool():
    if shutil.which("perf"):
        probe = subprocess.run(["perf", "stat", "-e", "instructions:u", "-x,", "true"], capture_output=True, text=True)
        if probe.returncode == 0 and re.match(r"\d+,", probe.stderr):
            return _perf
    if shutil.which("valgrind"):
        return _cachegrind
    raise Unavailable("neither perf with instruction counters nor valgrind is here")


def _perf(name, key, n, timeout):
    with _temporary_file() as log:
        _run(["perf", "stat", "-e", "instructions:u", "-x,", "-o", log.name], "plain", name, key, n, timeout)
        return int(re.search(r"^(\d+),", log.read(), re.MULTILINE).group(1))


def _cachegrind(name, key, n, timeout):
    tool = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
    report = _run(tool, "plain", name, key, n, timeout)
    return int(re.search(r"I\s+refs:\s+([\d,]+)", report).group(1).replace(",", ""))
