"""A crew with workers, and tasks for it; native."""
import os
import time

import mpfast
from mpfast import _core

PATIENCE = 30  # seconds after which a wait has failed
FORK = mpfast.get_context("fork")


class Team:
    """A crew with workers."""

    def __init__(self):
        self.crew = _core.Crew(64)
        self.processes = {}  # slot -> Process

    def start(self, count=1, context=FORK, target=None, **options):
        started = []
        for _ in range(count):
            slot = self.crew.add_worker()
            process = context.Process(target=target or _core.crew_work, args=(self.crew, slot), kwargs=options)
            process.start()
            self.processes[slot] = process
            started.append(slot)
        return started[0] if count == 1 else started

    def stop(self):
        self.crew.abandon()
        for process in self.processes.values():
            process.join(PATIENCE)
            if process.exitcode is None:
                process.kill()
                process.join()

    def submit(self, func, *args, **kwds):
        receiver = _core.Receiver()
        self.crew.submit(func, args, kwds, receiver)
        return receiver

    def call(self, func, *args, **kwds):
        return self.submit(func, *args, **kwds).get(PATIENCE)

    def map_async(self, func, items, chunksize=1, star=False, **options):
        receiver = _core.Receiver()
        receiver.expect_list(len(items), chunksize)
        self.crew.submit_pieces(star, func, items, chunksize, receiver, **options)
        return receiver

    def map(self, *args, **options):
        return self.map_async(*args, **options).get(PATIENCE)

    def stream(self, func, items, chunksize=1, ordered=True, flat=False, **options):
        stream = _core.Stream()
        stream.ordered = ordered
        stream.flat = flat
        self.crew.submit_pieces(False, func, items, chunksize, stream, **options)
        return stream

    def kill(self, slot):
        """Kill a worker; return what was lost."""
        self.processes[slot].kill()
        return self.bury(slot)

    def bury(self, slot):
        self.processes[slot].join(PATIENCE)
        return self.crew.lost(slot)


def square(x):
    return x * x


def fail_on(x, bad):
    if x == bad:
        raise ValueError(f"{x} is bad")
    return x


def fail_on_seven(x):
    return fail_on(x, 7)


def hold(started, release):
    """Say that the task has begun, and keep the worker until told."""
    started.set()
    release.wait(PATIENCE)
    return os.getpid()


def begin_and_wait(started):
    started.set()
    while True:
        time.sleep(1)


class Unpicklable:
    def __reduce__(self):
        raise RuntimeError("not to be pickled")
