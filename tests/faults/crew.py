"""Processes that use a primitive until they are killed or told to stop, and whoever watches that none of them hangs.

MPFAST_KILLS in the environment says how many kills each test makes (1,000 for the full proof).
"""
import mmap
import os
import random
import signal
import sys
import time
import warnings

import mpfast

KILLS = int(os.environ.get("MPFAST_KILLS", "40"))
SEED = int(os.environ.get("MPFAST_SEED", "0")) or random.SystemRandom().randrange(1, 2 ** 31)
LONG = 30  # seconds without any progress that count as a hang

ctx = mpfast.get_context("fork")


class Words:
    """A few 8-byte words that forked processes share, without any lock.

    A view writes a word with one store; struct.pack_into clears it first, and a process may be killed in between.
    """

    def __init__(self, count):
        self._words = memoryview(mmap.mmap(-1, 8 * count)).cast("q")

    def __getitem__(self, index):
        return self._words[index]

    def __setitem__(self, index, value):
        self._words[index] = value


class Crew:
    """*count* processes, each of which calls ``work(me)`` again and again; me is 0 ... count - 1."""

    def __init__(self, work, count=3):
        self.random = random.Random(SEED)
        print("seed", SEED, file=sys.stderr)
        self._work = work
        self._turns = Words(count)
        self._started = Words(count)
        self._stop = Words(1)
        self._processes = [self._start(me) for me in range(count)]

    def _start(self, me):
        self._started[me] = 0
        process = ctx.Process(target=self._run, args=(me,))
        process.start()
        return process

    def _run(self, me):
        warnings.simplefilter("ignore", mpfast.OwnerDiedWarning)
        self._started[me] = 1
        while not self._stop[0]:
            self._work(me)
            self._turns[me] += 1

    def kill_one(self):
        """Kill one of them at a random moment, and put another in its place.

        Not before it has come out of fork(): what a child that dies in there has is taken back, but half a minute later.
        """
        me = self.random.randrange(len(self._processes))
        deadline = time.monotonic() + LONG
        while not self._started[me]:
            assert time.monotonic() < deadline, "a new process did not start"
            time.sleep(0.0002)
        time.sleep(self.random.random() * 0.003)
        self._processes[me].kill()
        self._processes[me].join(LONG)
        assert self._processes[me].exitcode == -signal.SIGKILL, "it had failed before it was killed"
        self._processes[me] = self._start(me)

    def all_go_on(self, feed=lambda: None):
        """Wait until each of them has made a turn from now on; *feed* is called meanwhile."""
        before = [self._turns[me] for me in range(len(self._processes))]
        deadline = time.monotonic() + LONG
        while not all(self._turns[me] > turns for me, turns in enumerate(before)):
            assert time.monotonic() < deadline, f"hang: turns {before} before, now " \
                f"{[self._turns[me] for me in range(len(before))]}"
            assert all(process.is_alive() for process in self._processes)
            feed()
            time.sleep(0.0005)

    def kill_many(self, feed=lambda: None):
        """KILLS kills, with progress of all of them after every few."""
        for kill in range(KILLS):
            self.kill_one()
            if kill % 5 == 4 or kill == KILLS - 1:
                self.all_go_on(feed)

    def finish(self, feed=lambda: None):
        self._stop[0] = 1
        deadline = time.monotonic() + LONG
        for process in self._processes:
            while process.is_alive():
                assert time.monotonic() < deadline, "hang at the end"
                feed()
                process.join(0.001)
        assert [process.exitcode for process in self._processes] == [0] * len(self._processes)

    def destroy(self):
        for process in self._processes:
            process.kill()
            process.join(LONG)


def figures():
    """Live blocks and references of the program."""
    stats = mpfast._core.stats()
    return stats["blocks"], stats["references"]
