"""What a process and the machine look like from outside: CPU time, descriptors, threads, children, shared names."""
from __future__ import annotations

import os
import time


def cpu_seconds(pid):
    """CPU time that process `pid`, all its threads, has used so far."""
    # The clock of another process: its inverted id with the code of the scheduler's clock (see clock_getcpuclockid).
    return time.clock_gettime((~pid << 3) | 2)


def descriptors():
    """Number of open descriptors of this process."""
    return len(os.listdir("/proc/self/fd"))


def threads():
    """Number of threads of this process, those that Python does not know of included."""
    return len(os.listdir("/proc/self/task"))


def children():
    """Set of the ids of this process's children."""
    found = set()
    for task in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{task}/children") as f:
            found |= set(map(int, f.read().split()))
    return found


def shared_names():
    """Set of the names in /dev/shm, empty where there is none."""
    try:
        return set(os.listdir("/dev/shm"))
    except FileNotFoundError:
        return set()


def idle_cpu(pids, settle, window):
    """CPU seconds that processes `pids` use in `window` seconds, after `settle` seconds."""
    time.sleep(settle)
    before = sum(map(cpu_seconds, pids))
    time.sleep(window)
    return sum(map(cpu_seconds, pids)) - before
