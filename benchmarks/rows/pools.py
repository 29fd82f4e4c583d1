"""Pool and ProcessPoolExecutor, two workers each."""
from __future__ import annotations

import collections
import random
import time
from concurrent.futures import as_completed

from benchmarks import observe, payloads, tasks
from benchmarks.crew import Crew
from benchmarks.peers import WORKERS
from benchmarks.registry import Unavailable, add, row, timed


def _exhaust(iterable):
    collections.deque(iterable, maxlen=0)


def _method(pool, name):
    try:
        return getattr(pool, name)
    except AttributeError:
        raise Unavailable(f"has no {name}") from None


def _clocked(work):
    """``run(n)`` of ``work(n)``."""
    def run(n):
        began = time.perf_counter()
        work(n)
        return time.perf_counter() - began
    return run


@row("pool.apply", "`apply` round trip", uses="pool", bar=12, usual=556e-6)
def apply(impl):
    with impl.pool() as pool:
        yield timed("apply(task, (1,))", apply=_method(pool, "apply"), task=tasks.identity)


@row("pool.apply_async", "`apply_async` ×10,000 tiny, each", uses="pool", bar=12, usual=79e-6, n=10_000, quick_n=50)
def apply_async(impl):
    with impl.pool() as pool:
        submit = _method(pool, "apply_async")

        def work(n):
            for result in [submit(tasks.identity, (i,)) for i in range(n)]:
                result.get()
        yield _clocked(work)


@row("pool.map", "`map` of 1e6 tiny, default chunks, each", uses="pool", bar=1.8, usual=208e-9, n=1_000_000,
     quick_n=2_000)
def map_default(impl):
    with impl.pool() as pool:
        yield _clocked(lambda n: pool.map(tasks.identity, range(n)))


@row("pool.map.chunksize1", "`map(chunksize=1)`, each", uses="pool", bar=25, usual=29e-6, n=10_000, quick_n=50)
def map_one_by_one(impl):
    with impl.pool() as pool:
        yield _clocked(lambda n: pool.map(tasks.identity, range(n), chunksize=1))


def _lazy(name, bar, usual):
    def setup(impl):
        with impl.pool() as pool:
            lazy_map = _method(pool, name)
            yield _clocked(lambda n: _exhaust(lazy_map(tasks.identity, range(n), chunksize=1)))
    add(f"pool.{name}", f"`{name}(chunksize=1)`, each", setup, uses="pool", bar=bar, usual=usual, n=5_000, quick_n=50)


_lazy("imap_unordered", bar=25, usual=50e-6)
_lazy("imap", bar=25, usual=68e-6)


def _large(key, title, count, make_items, bar, usual):
    def setup(impl):
        items = make_items(count)
        with impl.pool() as pool:
            yield _clocked(lambda n: pool.map(tasks.identity, items[:n]))
    add(key, title, setup, uses="pool", bar=bar, usual=usual, n=count, quick_n=2)


_large("pool.map.1mib", "`map` with 1 MiB bytes in and out, each", 32,
       lambda count: [payloads.block(payloads.MIB, i) for i in range(count)], bar=10, usual=5.7e-3)
_large("pool.map.array", "`map` with 8 MiB numpy arrays in and out, each", 8,
       lambda count: [payloads.array(8, i) for i in range(count)], bar=12, usual=60e-3)


@row("executor.submit", "executor: `submit().result()`", uses="executor", bar=12, usual=381e-6)
def submit(impl):
    with impl.executor() as executor:
        yield timed("submit(task, 1).result()", submit=executor.submit, task=tasks.identity)


@row("executor.as_completed", "executor: 10,000 submits, then as_completed, each", uses="executor", bar=15,
     usual=147e-6, n=10_000, quick_n=50)
def submit_many(impl):
    with impl.executor() as executor:
        def work(n):
            for future in as_completed([executor.submit(tasks.identity, i) for i in range(n)]):
                future.result()
        yield _clocked(work)


def _executor_map(chunksize, n, quick_n, bar, usual):
    def setup(impl):
        with impl.executor() as executor:
            yield _clocked(lambda n: _exhaust(executor.map(tasks.identity, range(n), chunksize=chunksize)))
    add(f"executor.map.chunksize{chunksize}", f"executor: `map(chunksize={chunksize})`, each", setup, uses="executor",
        bar=bar, usual=usual, n=n, quick_n=quick_n)


_executor_map(1, n=3_000, quick_n=50, bar=40, usual=183e-6)
_executor_map(1000, n=300_000, quick_n=3_000, bar=3, usual=658e-9)


@row("executor.1mib", "executor: `submit` of 1 MiB, result of 1 MiB", uses="executor", bar=8, usual=3.5e-3)
def submit_large(impl):
    with impl.executor() as executor:
        yield timed("submit(task, item).result()", submit=executor.submit, task=tasks.identity,
                    item=payloads.block(payloads.MIB))


def _start_and_stop(method, bar, usual):
    def setup(impl):
        def work(n):
            for _ in range(n):
                with impl.pool(method) as pool:
                    pool.map(tasks.identity, range(WORKERS), chunksize=1)
        yield _clocked(work)
    add(f"pool.start.{method}", f"pool of {WORKERS}, start, use once and stop: {method}", setup, uses="pool",
        bar=bar, usual=usual, most=20)


_start_and_stop("fork", bar=2, usual=13e-3)
_start_and_stop("spawn", bar=3, usual=87e-3)
_start_and_stop("forkserver", bar=4, usual=34e-3)


@row("pool.threads", "threads of a waiting pool in the parent", uses="pool", unit="threads", at_most=1, n=1)
def threads_of_waiting_pool(impl):
    before = observe.threads()
    with impl.pool() as pool:
        pool.map(tasks.identity, range(10))
        yield lambda n: observe.threads() - before


@row("pool.idle_cpu", "CPU of the workers of an idle pool", uses="pool", unit="CPU s", at_most=0, n=1)
def cpu_of_idle_pool(impl):
    before = observe.children()
    with impl.pool() as pool:
        pool.map(tasks.identity, range(10))
        workers = observe.children() - before
        yield lambda n: observe.idle_cpu(workers, settle=impl.size(0.2, 0.05), window=impl.size(1.0, 0.1))


@row("pool.idle_cpu.parent", "CPU that an idle pool takes in the parent", uses="pool", unit="CPU s", at_most=0, n=1)
def cpu_of_parent(impl):
    # The observed process is a helper that holds a pool and sleeps; it must not be daemonic to have workers.
    with Crew(impl.fork, lambda n: _hold_pool(impl), daemon=False) as crew:
        def run(n):
            crew.start(n)
            return observe.idle_cpu(crew.pids, settle=impl.size(0.5, 0.2), window=impl.size(1.0, 0.1))
        yield run


def _hold_pool(impl):
    with impl.pool() as pool:
        pool.map(tasks.identity, range(10))
        time.sleep(3600)


@row("pool.uneven", "uneven tasks (1 in 100 is 100x longer): time over perfect balance's",
     uses="pool", unit="times", at_most=1.1, n=1)
def uneven(impl):
    short = 0.2e-3
    durations = [short] * impl.size(990, 99) + [100 * short] * impl.size(10, 1)
    random.Random(5).shuffle(durations)
    with impl.pool() as pool:
        pool.map(tasks.spin, [short] * 10)

        def run(n):
            began = time.perf_counter()
            pool.map(tasks.spin, durations)
            return (time.perf_counter() - began) / (sum(durations) / WORKERS)
        yield run
