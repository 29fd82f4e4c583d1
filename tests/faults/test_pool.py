"""Pools whose workers are killed at random while they work.

MPFAST_KILLS in the environment is the number of kills of each test (2,000 for the full proof).
"""
import collections
import contextlib
import os
import random
import signal
import sys
import threading
import time

import pytest

import mpfast
from mpfast import pool as pool_module
from .crew import KILLS, LONG, SEED, Words, ctx

pytestmark = pytest.mark.skipif(not hasattr(pool_module.Pool, "_supervisor"), reason="no native pool here")

WORKERS = 3
BIG = b"b" * 40000  # travels in a block of its own


class Killer:
    """Kills a random worker of a pool from time to time, in a thread of its own.

    Not before it has come out of fork(): what a child that dies in there has is taken back, but half a minute later.
    """

    def __init__(self, pool, kills):
        self.kills = 0
        self._pool = pool
        self._wanted = kills
        self._random = random.Random(SEED)
        self._thread = threading.Thread(target=self._run)
        print("seed", SEED, file=sys.stderr)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._wanted = 0
        self._thread.join(LONG)

    def done(self):
        return self.kills >= self._wanted

    def _run(self):
        while not self.done():
            time.sleep(self._random.random() * 0.006)
            workers = [process for process in list(self._pool._pool) if process.pid in self._begun()]
            if workers:
                self._random.choice(workers).kill()
                self.kills += 1

    def _begun(self):
        """The pids of workers that have taken their places in the crew."""
        pids = set()
        for slot in range(2 * WORKERS):
            with contextlib.suppress(ValueError):  # nobody is there just now
                pids.add(self._pool._crew.worker(slot)[0])
        return pids


def work(item):
    number, counts, load = item
    counts[number] += 1
    return number, load


def outcome(get):
    try:
        return get()
    except mpfast.WorkerLostError as error:
        assert error.signal == "SIGKILL"
        return error


class Count:
    """How often each task was begun, in memory that forked workers share."""

    def __init__(self, words):
        self._words = words

    def __getitem__(self, index):
        return self._words[index]

    def __setitem__(self, index, value):
        self._words[index] = value

    def __reduce__(self):
        return _the_count, ()


ROUND = 200
_count = Count(Words(ROUND))


def _the_count():
    return _count


def by_apply(pool, items):
    results = [pool.apply_async(work, (item,)) for item in items]
    return [outcome(lambda result=result: result.get(LONG)) for result in results]


def by_callback(pool, items):
    outcomes = {}
    ended = threading.Semaphore(0)

    def note(number):
        def call(value):
            assert number not in outcomes, "told twice"
            outcomes[number] = value
            ended.release()
        return call
    for item in items:
        pool.apply_async(work, (item,), callback=note(item[0]), error_callback=note(item[0]))
    for _ in items:
        assert ended.acquire(timeout=LONG), "hang: a callback was not called"
    return [outcomes[number] for number in range(len(items))]


def by_imap(pool, items):
    iterator = pool.imap(work, iter(items))
    outcomes = [outcome(lambda: iterator.next(LONG)) for _ in items]
    with pytest.raises(StopIteration):
        iterator.next(LONG)
    return outcomes


def by_imap_unordered(pool, items):
    iterator = pool.imap_unordered(work, items)
    outcomes = [outcome(lambda: iterator.next(LONG)) for _ in items]
    done = {value[0]: value for value in outcomes if isinstance(value, tuple)}
    lost = iter([value for value in outcomes if not isinstance(value, tuple)])
    assert len(done) + sum(not isinstance(value, tuple) for value in outcomes) == len(items)
    return [done[number] if number in done else next(lost) for number in range(len(items))]


@pytest.mark.parametrize("run", [by_apply, by_callback, by_imap, by_imap_unordered])
def test_kills_under_load(no_leak, run):
    pool = ctx.Pool(WORKERS)
    with Killer(pool, KILLS) as killer:
        while not killer.done():
            for number in range(ROUND):
                _count[number] = 0
            items = [(number, _count, BIG if number % 5 == 0 else number) for number in range(ROUND)]
            for item, value in zip(items, run(pool, items)):
                if isinstance(value, tuple):
                    assert value == (item[0], item[2])
                    assert _count[item[0]] == 1, "run twice"
                else:
                    assert isinstance(value, mpfast.WorkerLostError)
                    assert _count[item[0]] <= 1, "run twice"
    assert pool.map(abs, range(-50, 0)) == list(range(50, 0, -1))
    pool.close()
    pool.join()
    assert {process.exitcode for process in pool._pool} <= {0, -signal.SIGKILL}
    del pool


def test_kills_during_maps(no_leak):
    pool = ctx.Pool(WORKERS)
    kinds = collections.Counter()
    with Killer(pool, KILLS) as killer:
        while not killer.done():
            try:
                assert pool.map_async(abs, range(3000), chunksize=10).get(LONG) == list(range(3000))
                kinds["whole"] += 1
            except mpfast.WorkerLostError as error:
                assert error.signal == "SIGKILL"
                kinds["lost"] += 1
    print(kinds, file=sys.stderr)
    assert pool.map(abs, range(-50, 0)) == list(range(50, 0, -1))
    pool.terminate()
    pool.join()
    del pool


def descriptors():
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("end", ["terminate", "close", "kill"])
def test_many_pools(no_leak, end):
    """Nothing is left of pools, however they end."""
    with ctx.Pool(1) as first:
        first.apply(abs, (1,))
    del first
    before = descriptors(), threading.active_count()
    workers = []
    for _ in range(max(3, KILLS // 3)):
        pool = ctx.Pool(2)
        result = pool.map_async(abs, range(500), chunksize=1)
        workers += [process.pid for process in pool._pool]
        if end == "close":
            pool.close()
            pool.join()
            assert result.get(0) == list(range(500))
        else:
            if end == "kill":
                for process in pool._pool[:]:
                    process.kill()
                del process
            pool.terminate()
            pool.join()
        del pool, result
    # Fewer is no leak: what other tests have left may go meanwhile.
    assert descriptors() <= before[0] and threading.active_count() <= before[1]
    assert not any(is_child(pid) for pid in workers)


def is_child(pid):
    """Whether there is such a child, be it a zombie; its number may be another's process by now."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            return int(f.read().rpartition(")")[2].split()[1]) == os.getpid()
    except OSError:
        return False
