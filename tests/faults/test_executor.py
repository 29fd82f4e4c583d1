"""Executors whose workers are killed under load: every future ends, nothing runs twice that must not, nothing is left.

MPFAST_KILLS in the environment is the number of kills of each test (2,000 for the full proof).
"""
import concurrent.futures
import contextlib
import gc
import inspect
import mmap
import os
import random
import signal
import sys
import threading
import time
from concurrent.futures.process import BrokenProcessPool

import pytest

from mpfast.concurrent.futures import ProcessPoolExecutor
from .crew import KILLS, LONG, SEED, ctx

pytestmark = pytest.mark.skipif("on_worker_death" not in inspect.signature(ProcessPoolExecutor).parameters,
                                reason="no native executor here")

WORKERS = 3
BATCH = 60
LARGE = 200_000


def all_at_work(executor):
    """Wait until each of the processes has done a task: what one has that dies on its way out of fork() is taken back later."""
    deadline = time.monotonic() + LONG
    seen = set()
    while not seen.issuperset(executor._processes):
        assert time.monotonic() < deadline, "a process does nothing"
        seen.update(pid for pid, _ in executor.map(pid_and_rest, range(4), timeout=LONG))


def pid_and_rest(item):
    time.sleep(0.001)
    return os.getpid(), item


class Runs:
    """How often each task has been begun; a byte each, in memory that forked workers share."""

    def __init__(self, count):
        self._memory = mmap.mmap(-1, count)

    def begin(self, task):
        self._memory[task] += 1

    def __getitem__(self, task):
        return self._memory[task]


def work(runs, task, padding):
    """Every tenth takes a while; every seventh has a large argument and a large result."""
    runs.begin(task)
    if task % 10 == 0:
        time.sleep(0.001)
    return task, os.getpid(), padding


class Load:
    """Tasks on *executor*, what became of them, and kills among their workers."""

    def __init__(self, executor):
        self.executor = executor
        self.random = random.Random(SEED)
        print("seed", SEED, file=sys.stderr)
        self.runs = Runs(max(1, KILLS) * BATCH + BATCH)
        self.submitted = 0
        self.called_back = {}
        self.results = {}
        self.errors = {}
        self.at_work = set()  # processes that have done a task: they are out of fork()
        self._lock = threading.Lock()

    def submit(self, count):
        futures = []
        for task in range(self.submitted, self.submitted + count):
            padding = bytes(LARGE if task % 7 == 0 else 3)
            futures.append(self.executor.submit(BOUND, task, padding))
            futures[-1].task = task
            if task % 3 == 0:
                futures[-1].add_done_callback(self._note)
        self.submitted += count
        return futures

    def _note(self, future):
        with self._lock:
            self.called_back[future.task] = self.called_back.get(future.task, 0) + 1

    def kill_one(self):
        candidates = [pid for pid in list(self.executor._processes) if pid in self.at_work]
        if candidates:
            time.sleep(self.random.random() * 0.003)
            pid = self.random.choice(candidates)
            self.at_work.discard(pid)
            try:
                self.executor._processes[pid].kill()
            except KeyError:
                return False
            return True
        return False

    def settle(self, futures):
        """Wait for all of them in one of the ways there are, and note what they gave."""
        way = self.random.randrange(3)
        if way == 0:
            assert not concurrent.futures.wait(futures, LONG).not_done, "hang"
        elif way == 1:
            assert len(list(concurrent.futures.as_completed(futures, LONG))) == len(futures)
        for future in futures:
            assert future.task not in self.results and future.task not in self.errors
            try:
                task, pid, padding = future.result(LONG)
            except BrokenProcessPool as error:
                self.errors[future.task] = error
            else:
                assert task == future.task and padding == bytes(LARGE if task % 7 == 0 else 3)
                self.results[task] = pid
                self.at_work.add(pid)

    def kill_many(self):
        killed = 0
        deadline = time.monotonic() + LONG
        while killed < KILLS:
            futures = self.submit(BATCH)
            for _ in range(self.random.randrange(1, 4)):
                if self.kill_one():
                    killed += 1
                    deadline = time.monotonic() + LONG
            self.settle(futures)
            assert time.monotonic() < deadline, "no worker ever does anything"
            if self.submitted > KILLS * BATCH:
                break
        return killed

    def check(self, most_runs):
        assert set(self.results) | set(self.errors) == set(range(self.submitted))
        for task in range(self.submitted):
            assert self.runs[task] <= most_runs
            assert self.runs[task] >= 1 or task in self.errors
            if task in self.errors:
                assert self.errors[task].__cause__.pid
        deadline = time.monotonic() + LONG
        expected = {task: 1 for task in range(0, self.submitted, 3)}
        while self.called_back != expected:
            assert time.monotonic() < deadline, "a callback was not called, or twice"
            time.sleep(0.001)


class Bound:
    """work() with the counts of the present test, which workers have by being forked."""

    runs = None

    def __call__(self, task, padding):
        return work(self.runs, task, padding)

    def __reduce__(self):
        return "BOUND"


BOUND = Bound()


@pytest.mark.parametrize("mode, most_runs", [("raise", 1), ("retry", 3)])
def test_kills_cost_no_more_than_the_tasks_of_the_killed(no_leak, mode, most_runs):
    with ProcessPoolExecutor(WORKERS, mp_context=ctx, on_worker_death=mode) as executor:
        load = Load(executor)
        BOUND.runs = load.runs
        killed = load.kill_many()
        load.check(most_runs)
        assert len(load.errors) <= killed
        if mode == "retry":
            assert len(load.errors) <= killed // 3
        assert not executor._broken
        assert list(executor.map(abs, range(-100, 0), timeout=LONG)) == list(range(100, 0, -1))
    del executor, load
    gc.collect()


@pytest.mark.parametrize("mode", ["raise", "retry"])
def test_maps_whose_workers_are_killed(no_leak, mode):
    rng = random.Random(SEED)
    with ProcessPoolExecutor(WORKERS, mp_context=ctx, on_worker_death=mode) as executor:
        at_work = set()
        for _ in range(max(4, KILLS // 4)):
            results, seen, complete = executor.map(pid_and, range(200), chunksize=rng.choice([1, 7, 50]), timeout=LONG), [], True
            try:
                for number, (pid, item) in enumerate(results):
                    seen.append(item)
                    at_work.add(pid)
                    if number == 20:
                        alive = [pid for pid in list(executor._processes) if pid in at_work]
                        if alive:
                            with contextlib.suppress(ProcessLookupError):
                                os.kill(rng.choice(alive), signal.SIGKILL)
            except BrokenProcessPool:
                complete = False
            assert seen == list(range(200 if complete else len(seen)))
            assert complete or mode == "raise"
            at_work &= set(executor._processes)


def pid_and(item):
    return os.getpid(), item


def test_a_kill_ends_everything_by_default(no_leak):
    rng = random.Random(SEED)
    for _ in range(max(3, KILLS // 10)):
        with ProcessPoolExecutor(WORKERS, mp_context=ctx) as executor:
            assert executor.submit(abs, -1).result(LONG) == 1
            all_at_work(executor)
            futures = [executor.submit(pid_and, i) for i in range(BATCH)]
            time.sleep(rng.random() * 0.002)
            victim = rng.choice(futures).result(LONG)[0]
            os.kill(victim, signal.SIGKILL)
            try:
                futures += [executor.submit(pid_and, BATCH + i) for i in range(BATCH)]
            except BrokenProcessPool:
                pass
            assert not concurrent.futures.wait(futures, LONG).not_done, "hang"
            for i, future in enumerate(futures):
                assert isinstance(future.exception(), BrokenProcessPool) or future.result()[1] == i
            deadline = time.monotonic() + LONG
            while not executor._broken:
                assert time.monotonic() < deadline, "the death was not noticed"
                time.sleep(0.001)
            with pytest.raises(BrokenProcessPool):
                executor.submit(abs, 1)
        del executor
        gc.collect()


def test_executors_that_come_and_go_leave_nothing(no_leak):
    def figures():
        gc.collect()
        return threading.active_count(), len(os.listdir("/proc/self/fd"))

    before = figures()
    for turn in range(max(6, KILLS // 5)):
        executor = ProcessPoolExecutor(2, mp_context=ctx)
        executor.submit(abs, 1)
        all_at_work(executor)
        futures = [executor.submit(time.sleep, 60 if turn % 3 == 0 else 0) for _ in range(5)]
        processes = list(executor._processes.values())
        thread = executor._executor_manager_thread
        if turn % 3 == 0:
            executor.kill_workers()
        if turn % 3 == 1:
            executor.shutdown()
        del executor
        assert not concurrent.futures.wait(futures, LONG).not_done
        thread.join(LONG)
        assert not thread.is_alive()
        for process in processes:
            process.join(LONG)
            assert process.exitcode is not None
        del futures, processes, thread, process
    assert all(now <= then for now, then in zip(figures(), before))  # what other tests have left may go meanwhile
