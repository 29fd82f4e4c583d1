"""Lock, RLock, Semaphore, Condition, Event, Barrier; importing the package."""
from __future__ import annotations

import mmap
import subprocess
import sys
import time

from benchmarks import observe
from benchmarks.crew import Crew
from benchmarks.registry import SYSCALLS, Unavailable, row, statement


def _lock(impl):
    return {"lock": impl.fork.Lock()}


def _rlock(impl):
    return {"rlock": impl.fork.RLock()}


def _semaphore(impl):
    return {"semaphore": impl.fork.Semaphore(1)}


def _event(impl):
    return {"event": impl.fork.Event()}


def _context(impl):
    return {"mp": impl.fork}


statement("lock.with", "`with lock:` uncontended", "with lock: pass", _lock,
          bar=2.7, usual=350e-9, instructions=True)
statement("lock.acquire_release", "`lock.acquire(); lock.release()`", "lock.acquire(); lock.release()", _lock,
          bar=1.2, usual=66e-9, instructions=True)
statement("rlock.with", "`with rlock:`", "with rlock: pass", _rlock, bar=2.7, instructions=True)
statement("semaphore.acquire_release", "Semaphore acquire+release", "semaphore.acquire(); semaphore.release()",
          _semaphore, bar=1.2, instructions=True)
statement("event.is_set", "`event.is_set()`", "event.is_set()", _event, bar=15, usual=920e-9, instructions=True)
statement("lock.create", "create a Lock", "mp.Lock()", _context, bar=25, usual=29e-6, instructions=True)
statement("event.create", "create an Event", "mp.Event()", _context, bar=80, usual=175e-6, instructions=True)
statement("condition.create", "create a Condition", "mp.Condition()", _context, bar=60, usual=103e-6, instructions=True)


class _Contention:
    """`processes` processes that take one lock over and over until the first of them has done so n times."""

    # Steps between two looks at whether another process has finished.
    STRIDE = 32

    def __init__(self, impl, processes):
        self._finished = mmap.mmap(-1, mmap.PAGESIZE)
        self._lock = impl.fork.Lock()
        self._crew = Crew(impl.fork, *[self._hammer] * processes)

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self._crew.__exit__()

    def _hammer(self, n):
        lock, finished = self._lock, self._finished
        done = 0
        while done < n and not finished[0]:
            for _ in range(min(self.STRIDE, n - done)):
                with lock:
                    pass
            done += self.STRIDE
        finished[0] = 1
        return min(done, n)

    def run(self, n):
        """The parts of one sample; the value of each is how often that process took the lock."""
        self._finished[0] = 0
        return self._crew.run(n)


def _contended(processes, bar):
    @row(f"lock.contended.{processes}", f"Lock contended by {processes} processes (`with lock: pass`)", bar=bar)
    def time_of_one(impl):
        with _Contention(impl, processes) as contention:
            def run(n):
                parts = contention.run(n)
                elapsed = max(p.ended for p in parts) - min(p.began for p in parts)
                return elapsed * n / sum(p.value for p in parts)
            yield run

    @row(f"lock.share.{processes}", f"the slowest of {processes} processes at one Lock: part of its fair share",
         unit="share", at_least=0.5, n=1)
    def share_of_slowest(impl):
        # Many of the scheduler's time slices: within a few, the shares are the scheduler's and not the lock's.
        window = impl.size(0.5, 0.02)

        def run(_):
            n, elapsed = 1_000, 0.0
            while elapsed < window:
                n = round(n * min(10, max(1.5, window / max(elapsed, 1e-6))))
                parts = contention.run(n)
                elapsed = max(p.ended for p in parts) - min(p.began for p in parts)
            counts = [p.value for p in parts]
            return min(counts) * len(counts) / sum(counts)

        with _Contention(impl, processes) as contention:
            yield run


_contended(2, bar=4)
_contended(4, bar=3)


@row("condition.pingpong", "ping-pong over a Condition", bar=12, usual=57e-6)
def condition_pingpong(impl):
    condition = impl.fork.Condition()
    turn = mmap.mmap(-1, mmap.PAGESIZE)

    def side(mine):
        def play(n):
            for _ in range(n):
                with condition:
                    while turn[0] != mine:
                        condition.wait()
                    turn[0] = 1 - mine
                    condition.notify()
        return play

    with Crew(impl.fork, side(0), side(1)) as crew:
        yield crew.elapsed


@row("event.pingpong", "ping-pong over two Events", bar=15, usual=63e-6)
def event_pingpong(impl):
    ping, pong = impl.fork.Event(), impl.fork.Event()

    def server(n):
        for _ in range(n):
            ping.wait()
            ping.clear()
            pong.set()

    def client(n):
        for _ in range(n):
            ping.set()
            pong.wait()
            pong.clear()

    with Crew(impl.fork, client, server) as crew:
        yield crew.elapsed


@row("semaphore.pingpong", "ping-pong over two Semaphores", bar=6, usual=17e-6)
def semaphore_pingpong(impl):
    ping, pong = impl.fork.Semaphore(0), impl.fork.Semaphore(0)

    def server(n):
        for _ in range(n):
            ping.acquire()
            pong.release()

    def client(n):
        for _ in range(n):
            ping.release()
            pong.acquire()

    with Crew(impl.fork, client, server) as crew:
        yield crew.elapsed


def _barrier(parties, bar, usual):
    @row(f"barrier.{parties}", f"Barrier of {parties} processes, one phase", bar=bar, usual=usual)
    def phases(impl):
        barrier = impl.fork.Barrier(parties)

        def party(n):
            for _ in range(n):
                barrier.wait()

        with Crew(impl.fork, *[party] * parties) as crew:
            yield crew.elapsed


_barrier(2, bar=10, usual=72e-6)
_barrier(4, bar=5, usual=106e-6)


def _system_calls(key, title, source, names):
    statement(f"{key}.syscalls", f"system calls: {title}", source, names,
              unit=SYSCALLS, at_most=0, n=2_000, quick_n=10)


_system_calls("lock.with", "`with lock:`", "with lock: pass", _lock)
_system_calls("rlock.with", "`with rlock:`", "with rlock: pass", _rlock)
_system_calls("semaphore", "Semaphore acquire+release", "semaphore.acquire(); semaphore.release()", _semaphore)
_system_calls("event", "Event set, is_set, wait, clear", "event.set(); event.is_set(); event.wait(); event.clear()",
              _event)
_system_calls("lock.create", "create and drop a Lock", "mp.Lock()", _context)
_system_calls("event.create", "create and drop an Event", "mp.Event()", _context)
_system_calls("condition.create", "create and drop a Condition", "mp.Condition()", _context)


def _many_of_each(impl):
    mp = impl.fork
    return [[mp.Lock(), mp.Event(), mp.Value("i")] for _ in range(impl.size(1_000, 50))]


@row("sync.descriptors", "descriptors of 1,000 locks, events and values", unit="descriptors", at_most=0, n=1)
def descriptors_of_many(impl):
    mp = impl.fork
    kept = [mp.Lock(), mp.Value("i")]

    def run(n):
        before = observe.descriptors()
        many = _many_of_each(impl)
        after = observe.descriptors()
        del many
        return after - before
    yield run
    del kept


@row("sync.names", "names in /dev/shm of 1,000 locks, events and values", unit="names", at_most=0, n=1)
def names_of_many(impl):
    def run(n):
        # Other programs make and drop names all the time: what counts was not there before and stays for a while.
        before = observe.shared_names()
        many = _many_of_each(impl)
        new = observe.shared_names() - before
        for _ in range(5):
            time.sleep(0.02)
            new &= observe.shared_names()
        del many
        return len(new)
    yield run


def _blocked(key, title, make, wait, wake):
    """CPU time of a process that waits: `make(mp)` gives the object, `wait` blocks on it until `wake` is called."""
    @row(f"{key}.blocked_cpu", f"CPU used by a process blocked in {title}", unit="CPU s", at_most=0, n=1)
    def blocked(impl):
        thing = make(impl.fork)
        with Crew(impl.fork, lambda n: wait(thing)) as crew:
            def run(n):
                crew.start(n)
                try:
                    return observe.idle_cpu(crew.pids, settle=impl.size(0.1, 0.05), window=impl.size(0.3, 0.05))
                finally:
                    wake(thing)
                    crew.collect()
            yield run


def _held_lock(mp):
    lock = mp.Lock()
    lock.acquire()
    return lock


def _wait_condition(condition):
    with condition:
        condition.wait()


def _wake_condition(condition):
    with condition:
        condition.notify_all()


def _wait_event(event):
    event.wait()


def _wake_event(event):
    event.set()
    time.sleep(0.01)
    event.clear()


_blocked("lock", "`lock.acquire()`", _held_lock, lambda lock: bool(lock.acquire()), lambda lock: lock.release())
_blocked("semaphore", "`semaphore.acquire()`", lambda mp: mp.Semaphore(0), lambda s: bool(s.acquire()),
         lambda s: s.release())
_blocked("condition", "`condition.wait()`", lambda mp: mp.Condition(), _wait_condition, _wake_condition)
_blocked("event", "`event.wait()`", lambda mp: mp.Event(), _wait_event, _wake_event)
_blocked("barrier", "`barrier.wait()`", lambda mp: mp.Barrier(2), lambda b: b.wait() and None,
         lambda b: b.wait() and None)


def _import(key, title, bar, source):
    @row(key, title, uses="executor", bar=bar, n=1)
    def import_time(impl):
        program = f"import time; t = time.perf_counter(); {source(impl)}; print(time.perf_counter() - t)"

        def run(n):
            total = 0.0
            for _ in range(n):
                done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                if done.returncode:
                    raise Unavailable(done.stderr.decode().splitlines()[-1])
                total += float(done.stdout)
            return total
        yield run


_import("import", "`import mpfast`, against multiprocessing and its submodules", 1,
        lambda impl: _importing(impl, "import_usual"))
_import("import.all", "import the package with all of its submodules", None,
        lambda impl: _importing(impl, "import_all"))


def _importing(impl, which):
    try:
        return getattr(impl, which)()
    except AttributeError:
        raise Unavailable("is not a replacement of the whole package") from None
