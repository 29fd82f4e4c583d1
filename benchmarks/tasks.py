"""Functions that rows send to other processes; light, because spawned processes import it."""
from __future__ import annotations

import time


def nothing():
    pass


def identity(x):
    return x


def spin(seconds):
    """Keeps a CPU busy for `seconds` of wall-clock time."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def wait_for(connection):
    """Ends when the other end of `connection` says so or is closed."""
    try:
        connection.recv()
    except EOFError:
        pass
