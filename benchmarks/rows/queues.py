"""Queue, SimpleQueue, JoinableQueue and other fast queues."""
from __future__ import annotations

import itertools
import time

from benchmarks import observe, payloads
from benchmarks.crew import Crew
from benchmarks.registry import SYSCALLS, Unavailable, add, row, statement

#: Items of one put_many or get_many.
BATCH = 100

#: Every shape divides this, so that each process moves the same number of items.
SHARES = 4


def _flow(impl, queue, producers, consumers, produce, consume):
    """Context manager: `produce(n)` and `consume(n)` in so many processes that move SHARES * n units in all."""
    if consumers > 1 and not impl.shares_consumers:
        raise Unavailable("a consumer takes items that it does not ask for")

    def producer(n):
        produce(SHARES * n // producers)
        impl.flush(queue)

    def consumer(n):
        consume(SHARES * n // consumers)

    return Crew(impl.fork, *[producer] * producers, *[consumer] * consumers)


def _plain(queue, items=None):
    """``(produce, consume)`` with plain put and get, of small ints unless there are `items` (a list, used in turn)."""
    def produce(n):
        put = queue.put
        for item in range(n) if items is None else itertools.islice(itertools.cycle(items), n):
            put(item)

    def consume(n):
        get = queue.get
        for _ in range(n):
            get()
    return produce, consume


def _batched(impl, queue):
    """``(produce, consume)`` with put_many and get_many; a unit is a batch."""
    put_many, get_many = impl.batching(queue)

    def produce(n):
        for i in range(n):
            put_many(list(range(i, i + BATCH)))

    def consume(n):
        missing = n * BATCH
        while missing:
            missing -= len(get_many(min(missing, BATCH)))
    return produce, consume


def _shape(producers, consumers, bar, usual=None):
    shape = f"{producers}to{consumers}"

    def plain(impl):
        queue = impl.queue()
        with _flow(impl, queue, producers, consumers, *_plain(queue)) as crew:
            yield crew.elapsed

    def many(impl):
        queue = impl.queue()
        with _flow(impl, queue, producers, consumers, *_batched(impl, queue)) as crew:
            yield crew.elapsed

    add(f"queue.{shape}", f"Queue {producers}→{consumers}, small ints", plain, uses="queue", bar=bar, usual=usual,
        operations=SHARES, most=200_000)
    add(f"queue.many.{shape}", f"Queue {producers}→{consumers}, put_many/get_many of {BATCH}", many, uses="queue",
        bar=40, operations=SHARES * BATCH, most=10_000)


_shape(1, 1, bar=20, usual=7.6e-6)
_shape(4, 1, bar=12)
_shape(1, 4, bar=10)
_shape(4, 4, bar=15)


def _large(key, title, make_items, **attributes):
    """`make_items`: function of how many different objects are needed: one, or as many as may go into one pickle."""
    def setup(impl):
        queue = impl.queue()
        count = impl.size(SHARES * min(attributes["most"], 500), SHARES) if impl.pickles_many else 1
        with _flow(impl, queue, 1, 1, *_plain(queue, make_items(count))) as crew:
            yield crew.elapsed
    add(key, title, setup, uses="queue", operations=SHARES, **attributes)


_large("queue.dict", "Queue 1→1, 1 KiB dict", payloads.small_dicts, bar=6, usual=16e-6, most=50_000)
_large("queue.1mib", "Queue 1→1, 1 MiB bytes",
       lambda count: [payloads.block(payloads.MIB, i) for i in range(count)], bar=10, usual=2.3e-3, most=25)
_large("queue.array", "Queue 1→1, 8 MiB numpy array",
       lambda count: [payloads.array(8, i) for i in range(count)], bar=12, usual=27e-3, most=5)


def _pingpong(make, uses, impl, pause=0.0):
    """Two processes and two queues; gives ``run(n)`` which measures n round trips, each after a `pause`."""
    there, back = make(impl), make(impl)

    def client(n):
        total = 0.0
        for i in range(n):
            if pause:
                time.sleep(pause)
            began = time.perf_counter()
            there.put(i)
            impl.flush(there)
            back.get()
            total += time.perf_counter() - began
        return total

    def server(n):
        for _ in range(n):
            item = there.get()
            back.put(item)
            impl.flush(back)

    with Crew(impl.fork, client, server) as crew:
        yield lambda n: crew.run(n)[0].value


@row("queue.pingpong", "Queue ping-pong of an int over two queues", uses="queue", bar=20, usual=90e-6)
def queue_pingpong(impl):
    yield from _pingpong(lambda impl: impl.queue(), "queue", impl)


@row("queue.pingpong.idle", "Queue ping-pong after 1 ms idle", uses="queue", bar=4, usual=182e-6, most=500)
def queue_pingpong_idle(impl):
    yield from _pingpong(lambda impl: impl.queue(), "queue", impl, pause=0.001)


@row("queue.alone", "Queue put-then-get in one process", uses="queue", bar=150, usual=47e-6, instructions=True)
def queue_alone(impl):
    queue = impl.queue()

    def run(n):
        put, get, flush = queue.put, queue.get, impl.flush
        began = time.perf_counter()
        for i in range(n):
            put(i)
            flush(queue)
            get()
        return time.perf_counter() - began
    yield run


@row("queue.burst", "a burst of 10,000 Queue puts with no reader, each", uses="queue", bar=5, usual=1.6e-6, n=10_000,
     quick_n=500)
def queue_burst(impl):
    queue = impl.queue()

    def run(n):
        put = queue.put
        began = time.perf_counter()
        for i in range(n):
            put(i)
        impl.flush(queue)
        elapsed = time.perf_counter() - began
        for _ in range(n):
            queue.get()
        return elapsed
    yield run


@row("simplequeue.1to1", "SimpleQueue 1→1, small ints", bar=12, usual=4.9e-6, operations=SHARES)
def simple_queue(impl):
    queue = impl.fork.SimpleQueue()
    with _flow(impl, queue, 1, 1, *_plain(queue)) as crew:
        yield crew.elapsed


@row("simplequeue.4to4", "SimpleQueue 4→4, small ints", bar=12, operations=SHARES)
def simple_queue_crowd(impl):
    queue = impl.fork.SimpleQueue()
    with _flow(impl, queue, 4, 4, *_plain(queue)) as crew:
        yield crew.elapsed


@row("simplequeue.pingpong", "SimpleQueue ping-pong", bar=12, usual=42e-6)
def simple_queue_pingpong(impl):
    yield from _pingpong(lambda impl: impl.fork.SimpleQueue(), "mp", impl)


@row("joinablequeue.1to1", "JoinableQueue 1→1 with task_done", bar=15, usual=9.2e-6)
def joinable_queue(impl):
    queue = impl.fork.JoinableQueue()

    def producer(n):
        for i in range(n):
            queue.put(i)
        queue.join()

    def consumer(n):
        for _ in range(n):
            queue.get()
            queue.task_done()

    with Crew(impl.fork, producer, consumer) as crew:
        yield crew.elapsed


def _context(impl):
    return {"mp": impl.fork}


def _queue(impl):
    return {"queue": impl.fork.Queue()}


statement("queue.create", "create a Queue", "mp.Queue()", _context, bar=15, usual=83e-6, instructions=True)
statement("queue.syscalls", "system calls: Queue put+get", "queue.put(1); queue.get()", _queue,
          unit=SYSCALLS, at_most=0, n=1_000, quick_n=10)
statement("queue.qsize.syscalls", "system calls: `queue.qsize()`", "queue.qsize()", _queue,
          unit=SYSCALLS, at_most=0, n=1_000, quick_n=10)


def _growth(impl, count):
    """How much `count()` grows by a Queue that is in use."""
    unrelated = impl.fork.Queue()
    unrelated.put(0)
    unrelated.get()

    def run(n):
        before = count()
        queue = impl.fork.Queue()
        queue.put(0)
        queue.get()
        growth = count() - before
        queue.close()
        queue.join_thread()
        return growth
    yield run
    unrelated.close()
    unrelated.join_thread()


@row("queue.descriptors", "descriptors of a Queue", unit="descriptors", at_most=1, n=1)
def queue_descriptors(impl):
    yield from _growth(impl, observe.descriptors)


@row("queue.threads", "threads of a Queue", unit="threads", at_most=0, n=1)
def queue_threads(impl):
    yield from _growth(impl, observe.threads)


@row("queue.idle_cpu", "CPU used while both ends of a Queue are idle", unit="CPU s", at_most=0, n=1)
def queue_idle_cpu(impl):
    there, back = impl.fork.Queue(), impl.fork.Queue()

    def server(n):
        there.put("started")
        back.get()

    def client(n):
        there.get()
        there.get()

    with Crew(impl.fork, server, client) as crew:
        def run(n):
            crew.start(n)
            try:
                return observe.idle_cpu(crew.pids, settle=impl.size(0.1, 0.05), window=impl.size(0.3, 0.05))
            finally:
                there.put("go on")
                back.put("go on")
                crew.collect()
        yield run
