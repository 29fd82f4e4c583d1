"""Tasks for the tests of ProcessPoolExecutor, and one that is kept busy."""
import inspect
import os
import time

import pytest

import mpfast
from mpfast.concurrent.futures import ProcessPoolExecutor

LONG = 60  # seconds after which something hangs

context = mpfast.get_context("fork")
NATIVE = "on_worker_death" in inspect.signature(ProcessPoolExecutor).parameters
native = pytest.mark.skipif(not NATIVE, reason="beyond the standard library's executor")


def identity(x):
    return x


def add(x, y):
    return x + y


def fail(message):
    raise ValueError(message)


def wait_for(started, gate):
    started.release()
    assert gate.wait(LONG)
    return "waited"


def count_up(counter):
    with counter.get_lock():
        counter.value += 1


def pid_of_worker():
    return os.getpid()


class FailsToPickle:
    def __reduce__(self):
        raise LookupError("not this one")


def make(cls):
    return cls()


def eventually(condition):
    deadline = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < deadline, "never came true"
        time.sleep(0.005)


class Blocked:
    """An executor of one worker, which is busy until ``release()``."""

    def __init__(self, **options):
        self.started, self.gate = context.Semaphore(0), context.Event()
        self.executor = ProcessPoolExecutor(1, mp_context=context, **options)
        self.first = self.executor.submit(wait_for, self.started, self.gate)
        assert self.started.acquire(timeout=LONG)

    def release(self):
        self.gate.set()

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.release()
        self.executor.shutdown()
