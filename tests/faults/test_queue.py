"""Queues whose producers and consumers are killed, and a long run of many through many.

MPFAST_SOAK in the environment is the number of messages of that run (100,000,000 for the full proof).
"""
import os
import queue
import signal

import pytest

import mpfast
from .crew import LONG, ctx
from .traffic import Traffic

SOAK = int(os.environ.get("MPFAST_SOAK", "40000"))


def run_kills(crew, traffic, wake):
    team = crew(traffic.work, 4)
    team.kill_many()
    team.finish(wake)


def drained(q):
    def get():
        while True:
            try:
                item = q.get(True, 0.2)
            except queue.Empty:
                return None
            if item is not None:
                return item
    return get


@pytest.mark.parametrize("maxsize", [0, 20])
def test_kills_of_queue(crew, maxsize):
    q = ctx.Queue(maxsize)

    def get():
        try:
            return q.get(timeout=0.05)
        except queue.Empty:
            return None

    def put(item):
        try:
            q.put(item, timeout=LONG)
        except queue.Full:
            raise AssertionError("no room was made") from None

    traffic = Traffic(put, get)
    # producers that still wait for room when the consumers have stopped are let in by taking what is there
    run_kills(crew, traffic, lambda: take_one(q, traffic))
    traffic.drain(drained(q))
    traffic.check()
    assert q.empty() and q.qsize() == 0


def take_one(q, traffic):
    items = []
    try:
        items.append(q.get_nowait())
    except queue.Empty:
        return
    traffic.drain(lambda: items.pop() if items else None)


def test_kills_of_simple_queue(crew):
    q = ctx.SimpleQueue()
    traffic = Traffic(q.put, q.get)
    run_kills(crew, traffic, lambda: q.empty() and q.put(None))
    q.put(None)

    def get():
        while not q.empty():
            item = q.get()
            if item is not None:
                return item
        return None

    traffic.drain(get)
    traffic.check()


class Finished(Traffic):
    """Traffic over a JoinableQueue.

    At module level: free-threaded CPython 3.13 keeps classes for ever, and with one made in a test what its methods refer to.
    """

    def __init__(self, q):
        super().__init__(q.put, q.get)
        self._finish = q.task_done

    def _consume(self, me):
        super()._consume(me)
        self._finish()


def test_kills_of_joinable_queue(crew):
    q = ctx.JoinableQueue()
    traffic = Finished(q)
    run_kills(crew, traffic, lambda: q.empty() and q.put(None))

    def get():
        while not q.empty():
            item = q.get()
            q.task_done()
            if item is not None:
                return item
        return None

    traffic.drain(get)
    traffic.check()
    joiner = ctx.Process(target=q.join)
    joiner.start()
    joiner.join(LONG)
    assert joiner.exitcode == 0, "join() waits for tasks of the dead"
    with pytest.raises(ValueError):
        q.task_done()


def hold(q, taken):
    q.get()
    q.get()
    taken.set()
    signal.pause()


def test_join_ends_when_the_last_holder_is_killed(no_leak):
    q = ctx.JoinableQueue()
    taken = ctx.Event()
    for item in range(3):
        q.put(item)
    holder = ctx.Process(target=hold, args=(q, taken))
    holder.start()
    assert taken.wait(LONG)
    assert q.get() == 2
    q.task_done()
    joiner = ctx.Process(target=q.join)
    joiner.start()
    joiner.join(0.1)
    assert joiner.is_alive()
    holder.kill()
    joiner.join(LONG)
    assert joiner.exitcode == 0
    holder.join(LONG)
    del holder, joiner


def put_and_die(q):
    for item in range(1000):
        q.put(item)
    q.put(bytes(3_000_000))
    os.kill(os.getpid(), signal.SIGKILL)


def test_what_was_put_survives_the_producer(no_leak):
    q = ctx.Queue()
    producer = ctx.Process(target=put_and_die, args=(q,))
    producer.start()
    producer.join(LONG)
    assert producer.exitcode == -signal.SIGKILL
    assert [q.get(timeout=LONG) for _ in range(1000)] == list(range(1000))
    assert len(q.get(timeout=LONG)) == 3_000_000
    assert q.empty()
    del producer


def wait_for_item(q, begun):
    begun.release()
    q.get()


def test_a_killed_sleeper_takes_no_wake_up_with_it(no_leak):
    q, begun = ctx.Queue(), ctx.Semaphore(0)
    sleepers = [ctx.Process(target=wait_for_item, args=(q, begun)) for _ in range(3)]
    for sleeper in sleepers:
        sleeper.start()
    for _ in sleepers:
        assert begun.acquire(timeout=LONG)
    sleepers[0].kill()
    q.put(1)
    q.put(2)
    for sleeper in sleepers:
        sleeper.join(LONG)
    assert [sleeper.exitcode for sleeper in sleepers] == [-signal.SIGKILL, 0, 0]
    assert q.empty()
    del sleeper, sleepers


# ---- the long run ----

def descriptors():
    return len(os.listdir("/proc/self/fd"))


def produce(q, count):
    before = descriptors()
    for number in range(count):
        q.put(number)
    assert descriptors() == before


def consume(q, results):
    before = descriptors()
    count = total = 0
    while (item := q.get()) is not None:
        count += 1
        total += item
    results.put((count, total, descriptors() - before))


def committed():
    return mpfast._core.stats()["committed"]


def test_soak(no_leak):
    q = ctx.Queue(1000)
    results = ctx.SimpleQueue()
    each = SOAK // 8

    def run(count):
        producers = [ctx.Process(target=produce, args=(q, count)) for _ in range(4)]
        consumers = [ctx.Process(target=consume, args=(q, results)) for _ in range(4)]
        for process in producers + consumers:
            process.start()
        for process in producers:
            process.join()
            assert process.exitcode == 0
        for _ in consumers:
            q.put(None)
        found = [results.get() for _ in consumers]
        for process in consumers:
            process.join()
            assert process.exitcode == 0
        assert sum(found_count for found_count, _, _ in found) == 4 * count
        assert sum(total for _, total, _ in found) == 4 * (count * (count - 1) // 2)
        assert all(opened == 0 for _, _, opened in found)

    run(each)
    memory, opened = committed(), descriptors()
    run(each)
    assert committed() <= memory + (1 << 20), "the arena has grown"
    assert descriptors() == opened
    assert q.empty()
