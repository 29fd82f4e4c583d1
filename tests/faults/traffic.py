"""Producers and consumers that are killed at random, and a record of which message was acknowledged and which arrived.

A producer's life sends numbered messages and notes each that was accepted; consumers note what they get.  Afterwards every
message must have arrived at most once, every acknowledged one exactly once, but for one in the hands of each killed consumer.
"""
import mmap
import os
import time

from .crew import KILLS, Words

PRODUCERS = (0, 2)
CONSUMERS = (1, 3)
LIVES = KILLS + 2
EACH = 4000  # messages of one life
AHEAD = 400  # messages under way before producers wait
LONG_BYTES = 20000  # travels in a block of its own


class Traffic:
    def __init__(self, put, get):
        self._put = put
        self._get = get
        self._lives = Words(4)
        self._acknowledged = Words(4 * LIVES)
        self._arrived = mmap.mmap(-1, 4 * LIVES * EACH)
        self._moved = Words(4)
        self._pid = None

    def work(self, me):
        if self._pid != os.getpid():
            self._begin(me)
        if me in PRODUCERS:
            self._produce(me)
        else:
            self._consume(me)

    def _begin(self, me):
        self._pid = os.getpid()
        self._life = self._lives[me]
        self._lives[me] += 1
        self._last = {}

    def _under_way(self):
        return sum(self._moved[me] for me in PRODUCERS) - sum(self._moved[me] for me in CONSUMERS)

    def _produce(self, me):
        line = me * LIVES + self._life
        number = self._acknowledged[line]
        if number == EACH:  # this life's record is full; consumers still want to be kept going
            self._put(None)
            time.sleep(0.001)
            return
        if self._under_way() > AHEAD:
            time.sleep(0.0005)
            return
        self._put((line, number, bytes(LONG_BYTES) if number % 40 == 39 else None))
        self._acknowledged[line] = number + 1
        self._moved[me] += 1

    def _consume(self, me):
        item = self._get()
        if item is not None:
            line, number, load = item
            assert load is None or len(load) == LONG_BYTES
            assert number > self._last.get(line, -1), "out of order"
            self._last[line] = number
            self._arrived[line * EACH + number] += 1
            self._moved[me] += 1

    def drain(self, get):
        """What is still under way, got by the test itself, which is never killed."""
        while (item := get()) is not None:
            self._arrived[item[0] * EACH + item[1]] += 1

    def check(self):
        killed_consumers = sum(self._lives[me] - 1 for me in CONSUMERS)
        missing = 0
        for line in range(4 * LIVES):
            arrived = self._arrived[line * EACH:(line + 1) * EACH]
            accepted = self._acknowledged[line]
            assert max(arrived) <= 1, "a message arrived twice"
            assert not any(arrived[accepted + 1:]), "a message arrived that was never sent"
            missing += arrived[:accepted].count(0)
        assert missing <= killed_consumers, f"{missing} acknowledged messages lost, {killed_consumers} consumers killed"
        assert sum(self._moved[me] for me in CONSUMERS) > 0
