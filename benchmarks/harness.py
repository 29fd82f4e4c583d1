"""Measures rows: one process for each implementation, samples taken in turn (A B C A B C ...)."""
from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from typing import Optional

from benchmarks import counters, peers, statistics
from benchmarks.registry import SYSCALLS, Unavailable


@dataclasses.dataclass(frozen=True)
class Plan:
    """How to measure.

    quick: tiny sizes, one sample; to see that everything works.
    repeat: samples of each implementation.
    target: seconds that one sample takes.
    timeout: seconds after which a command to a worker has failed.
    """

    quick: bool = False
    repeat: int = 7
    target: float = 0.2
    timeout: float = 60.0

    @classmethod
    def for_quick(cls):
        return cls(quick=True, repeat=1, target=0.002, timeout=20.0)


@dataclasses.dataclass
class Result:
    """What one implementation did in one row.

    samples: seconds per operation (or the row's unit), in the order they were taken.
    problem: why there are none or fewer, or None.
    failed: whether the problem is an error rather than a missing feature.
    ratio: Summary of reference / this, or None.
    """

    samples: list = dataclasses.field(default_factory=list)
    problem: Optional[str] = None
    failed: bool = False
    ratio: Optional[statistics.Summary] = None

    @property
    def summary(self):
        return statistics.summarize(self.samples) if self.samples else None

    def fail(self, problem):
        self.problem = problem
        self.failed = True


class WorkerFailed(Exception):
    """A worker answered with an error, died or did not answer in time."""


class Worker:
    """A process that does the work of rows on the implementation called `name` (see :mod:`benchmarks.worker`)."""

    def __init__(self, name, quick):
        self._stderr = tempfile.TemporaryFile()
        command = [sys.executable, "-X", "faulthandler", counters.WORKER, "serve", name, "quick" if quick else "full"]
        # Elsewhere children find what they import compiled; without this each one would compile the tasks of the rows.
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr,
                                         start_new_session=True, env=environment)
        self._answers = b""

    def ask(self, timeout, **command):
        """The answer to `command`, a dict; raises WorkerFailed or Unavailable."""
        try:
            self._process.stdin.write(json.dumps(command).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise WorkerFailed(self._last_words("died")) from None
        answer = json.loads(self._line(time.monotonic() + timeout))
        if "unavailable" in answer:
            raise Unavailable(answer["unavailable"])
        if "error" in answer:
            raise WorkerFailed(self._last_words(answer["error"].strip()))
        return answer

    def _line(self, deadline):
        while b"\n" not in self._answers:
            if not select.select([self._process.stdout], [], [], max(0, deadline - time.monotonic()))[0]:
                raise WorkerFailed(self._last_words("did not answer in time"))
            piece = os.read(self._process.stdout.fileno(), 65536)
            if not piece:
                raise WorkerFailed(self._last_words("died"))
            self._answers += piece
        line, _, self._answers = self._answers.partition(b"\n")
        return line

    def _last_words(self, what):
        self._stderr.seek(0)
        words = self._stderr.read()[-2000:].decode(errors="replace").strip()
        return f"{what}\n{words}".strip()

    def close(self):
        """Ends the process and all that it has started."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()
        with contextlib.suppress(BrokenPipeError):  # what one that had died was asked is in the buffer still
            self._process.stdin.close()
        self._process.stdout.close()
        self._stderr.close()


class Workers:
    """The workers of a run.  A quick run keeps them from row to row, a full one starts fresh ones for each row."""

    def __init__(self, plan):
        self._plan = plan
        self._idle = {}

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        for worker in self._idle.values():
            worker.close()

    def take(self, name):
        return self._idle.pop(name, None) or Worker(name, self._plan.quick)

    def give_back(self, name, worker):
        """Takes back a worker that has done its row, or has failed to."""
        try:
            if self._plan.quick:
                worker.ask(self._plan.timeout, finish=True)
                self._idle[name] = worker
                return
        except (WorkerFailed, Unavailable):
            pass
        worker.close()


def describe(names, plan, workers):
    """Dict of `names` -> what each implementation says of itself as it is installed here."""
    described = {}
    for name in names:
        worker = workers.take(name)
        try:
            described[name] = worker.ask(plan.timeout, describe=True)
        except WorkerFailed as exc:
            described[name] = {"failed": str(exc)}
        workers.give_back(name, worker)
    return described


def measure(row, names, plan, workers):
    """Dict of `names` -> :class:`Result` for `row`; names whose implementation is not meant for it are left out."""
    names = [name for name in names if row.uses in peers.IMPLEMENTATIONS[name].provides]
    results = {name: Result() for name in names}
    if row.unit == SYSCALLS:
        _count_system_calls(row, results, plan)
    else:
        _take_samples(row, results, plan, workers)
    reference = results.get(peers.REFERENCE)
    if reference and row.timed:
        for result in results.values():
            result.ratio = statistics.ratios(reference.samples, result.samples)
    return results


def _count_system_calls(row, results, plan):
    n = row.quick_n if plan.quick else row.n
    for name, result in results.items():
        try:
            result.samples.append(row.result(counters.system_calls(name, row.key, n), n))
        except Unavailable as exc:
            result.problem = str(exc)
        except (RuntimeError, ValueError, subprocess.TimeoutExpired) as exc:
            result.fail(str(exc))


def _take_samples(row, results, plan, workers):
    active = {name: workers.take(name) for name in results}
    numbers = {}
    try:
        for name in list(active):
            with _Guard(results[name], active, name):
                n = (row.quick_n if plan.quick else None) or row.n
                command = {"prepare": row.key, "target": plan.target, "n": n}
                numbers[name] = active[name].ask(plan.timeout, **command)["n"]
        for _ in range(plan.repeat if row.timed else 1):
            for name in list(active):
                with _Guard(results[name], active, name):
                    figure = active[name].ask(plan.timeout, sample=numbers[name])["figure"]
                    results[name].samples.append(figure)
    finally:
        for name, worker in active.items():
            workers.give_back(name, worker)


class _Guard:
    """Context manager: a failure goes into the result and takes the worker out of the round."""

    def __init__(self, result, active, name):
        self._result = result
        self._active = active
        self._name = name

    def __enter__(self):
        return self

    def __exit__(self, kind, exc, traceback):
        if isinstance(exc, Unavailable):
            self._result.problem = str(exc)
        elif isinstance(exc, WorkerFailed):
            self._result.fail(str(exc))
        else:
            return False
        self._active.pop(self._name).close()
        return True


def count_instructions(row, names, few=200, many=1_200):
    """Dict of `names` -> :class:`Result` whose one sample is the instructions of one operation."""
    results = {}
    for name in names:
        if row.uses not in peers.IMPLEMENTATIONS[name].provides:
            continue
        result = results[name] = Result()
        try:
            count = counters.instructions(name, row.key, few, many)
            result.samples.append(count / row.operations)
        except Unavailable as exc:
            result.problem = str(exc)
        except (RuntimeError, subprocess.TimeoutExpired) as exc:
            result.fail(str(exc))
    if peers.REFERENCE in results:
        for result in results.values():
            result.ratio = statistics.ratios(results[peers.REFERENCE].samples, result.samples)
    return results
