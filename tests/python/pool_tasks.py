"""Tasks for the tests of pools."""
import os
import signal
import threading
import time

import mpfast

LONG = 60  # seconds: long enough for anything that does not hang

fork = mpfast.get_context("fork")


def square(x):
    return x * x


def add(a, b=0):
    return a + b


def fail(x):
    raise KeyError(x)


def own_pid(_=None):
    return os.getpid()


def kill_self(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def wait_for(event, *result):
    event.wait()
    return result


def set_and_wait(started, release):
    started.set()
    release.wait()


def until(condition):
    deadline = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < deadline, "it never became so"
        time.sleep(0.002)


def unencodable(_=None):
    return threading.Lock()
