"""What a user sees of Queue, JoinableQueue and SimpleQueue."""
import gc
import os
import signal
import sys
import threading
import time
from queue import Empty, Full

import pytest

import mpfast
from mpfast import queues

METHODS = ("fork", "spawn", "forkserver")

pytestmark = pytest.mark.skipif(not hasattr(queues, "_machine"), reason="no native queues here")

context = mpfast.get_context("fork")
KINDS = (context.Queue, context.JoinableQueue, context.SimpleQueue)


def start(work, *args):
    child = context.Process(target=work, args=args)
    child.start()
    return child


def end(*children):
    for child in children:
        child.join()
        assert child.exitcode == 0


# ---- one process

@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("item", [
    None, True, 0, -1, 1 << 100, 1.5, "", "text\u20ac", b"", b"bytes", (), [1, [2]], {"a": {"b": (1,)}}, {1, 2},
    range(3), "x" * 100_000, b"y" * 5_000_000, list(range(20_000)), {"k": b"z" * 40_000},
], ids=lambda item: repr(item)[:20])
def test_what_is_put_comes_out(make, item):
    queue = make()
    queue.put(item)
    got = queue.get()
    assert got == item and type(got) is type(item)
    assert queue.empty()


@pytest.mark.parametrize("make", KINDS)
def test_first_in_first_out_with_items_of_all_sizes(make):
    queue = make()
    items = [b"x" * size for size in (0, 1, 100, 20_000, 3, 300_000, 50, 16_384, 16_385, 2)]
    for item in items:
        queue.put(item)
    assert [queue.get() for _ in items] == items


def _double(requests, answers):
    for item in iter(requests.get, None):
        answers.put(item * 2)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["Queue", "SimpleQueue"])
def test_used_by_one_process_before_another_comes(method, kind):
    """What one process has put, got and left before there was another, and what both do from then on."""
    ctx = mpfast.get_context(method)
    requests, answers = getattr(ctx, kind)(), getattr(ctx, kind)()
    for i in range(300):
        for queue in requests, answers:
            queue.put(i)
            queue.put("text" * (i % 40))
            assert queue.get() == i
            assert not queue.empty()
        for queue in requests, answers:
            assert queue.get() == "text" * (i % 40)
            assert queue.empty()
    for i in range(500):
        requests.put(i)
    child = ctx.Process(target=_double, args=(requests, answers))
    child.start()
    for i in range(500, 1000):
        requests.put(i)
    assert [answers.get() for _ in range(1000)] == [2 * i for i in range(1000)]
    requests.put(None)
    end(child)
    assert requests.empty() and answers.empty()
    requests.put("again")
    assert requests.get() == "again"


def test_one_process_with_threads_that_wait():
    queue, answers = context.Queue(), context.Queue()
    queue.put("before")
    assert queue.get() == "before"
    threads = [threading.Thread(target=_double, args=(queue, answers)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for i in range(300):
        while not queue._awaited():
            time.sleep(0)
        queue.put(i)
        assert answers.get() == 2 * i
    for i in range(300):
        queue.put(i)
    assert sorted(answers.get() for _ in range(300)) == [2 * i for i in range(300)]
    for _ in threads:
        queue.put(None)
    for thread in threads:
        thread.join()
    assert queue.empty() and answers.empty()


def test_put_and_got_by_a_finalizer_during_put_and_get():
    queue = context.Queue()
    seen = []

    class Finalized:
        def __init__(self):
            self.itself = self

        def __del__(self):
            queue.put("finalized")
            seen.append(queue.get())

    threshold = gc.get_threshold()
    gc.set_threshold(3)
    try:
        for i in range(300):
            Finalized()
            queue.put([[i], [i]])
            seen.append(queue.get())
    finally:
        gc.set_threshold(*threshold)
    while not queue.empty():
        seen.append(queue.get())
    assert [item for item in seen if item != "finalized"] == [[[i], [i]] for i in range(300)]
    if getattr(sys, "_is_gil_enabled", lambda: True)():  # without a GIL the collector need not have run by now
        assert "finalized" in seen


def test_identity_within_an_item_is_kept_and_the_item_is_a_copy():
    queue = context.Queue()
    inner = [1]
    item = [inner, inner]
    item.append(item)
    queue.put(item)
    inner.append(2)
    got = queue.get()
    assert got[0] is got[1] and got[0] == [1] and got[2] is got


def test_arrays_come_out_writable_and_private():
    numpy = pytest.importorskip("numpy")
    queue = context.Queue()
    array = numpy.arange(1_000_000, dtype="f8")
    queue.put(array)
    queue.put(array)
    first, second = queue.get(), queue.get()
    first[0] = -1
    assert second[0] == array[0] == 0 and first.sum() == array.sum() - 1
    assert first.flags.writeable


def test_qsize_empty_and_full_agree():
    queue = context.Queue(2)
    assert (queue.qsize(), queue.empty(), queue.full()) == (0, True, False)
    queue.put("a")
    assert (queue.qsize(), queue.empty(), queue.full()) == (1, False, False)
    queue.put("b")
    assert (queue.qsize(), queue.empty(), queue.full()) == (2, False, True)
    with pytest.raises(Full):
        queue.put("c", False)
    with pytest.raises(Full):
        queue.put("c", True, 0.01)
    with pytest.raises(Full):
        queue.put_nowait("c")
    assert [queue.get(), queue.get(False)] == ["a", "b"]
    with pytest.raises(Empty):
        queue.get_nowait()
    with pytest.raises(Empty):
        queue.get(True, 0.01)
    with pytest.raises(Empty):
        queue.get(block=True, timeout=-1)
    assert (queue.qsize(), queue.empty(), queue.full()) == (0, True, False)


def test_a_timeout_is_waited_for():
    empty, full = context.Queue(), context.Queue(1)
    full.put(0)
    for call, error in ((lambda: empty.get(timeout=0.2), Empty), (lambda: full.put(1, timeout=0.2), Full)):
        before = time.monotonic()
        with pytest.raises(error):
            call()
        assert time.monotonic() - before >= 0.2


def test_a_maxsize_that_is_none():
    for maxsize in (0, -1):
        queue = context.Queue(maxsize)
        queue.put_many(range(10_000))
        assert queue.qsize() == 10_000 and not queue.full()
    with pytest.raises(TypeError):
        context.Queue("many")


# ---- many at once

def test_put_many_and_get_many():
    queue = context.Queue()
    assert queue.put_many(i * i for i in range(5000)) == 5000
    assert queue.get_many(10) == [i * i for i in range(10)]
    got = []
    while len(got) < 4990:
        got += queue.get_many()
    assert got == [i * i for i in range(10, 5000)]
    assert queue.put_many([]) == 0
    with pytest.raises(Empty):
        queue.get_many(3, 0)
    with pytest.raises(ValueError, match="at least 1"):
        queue.get_many(0)
    with pytest.raises(TypeError):
        queue.put_many(3)


def test_put_many_says_how_many_found_room():
    queue = context.Queue(3)
    with pytest.raises(Full) as raised:
        queue.put_many("abcde", timeout=0)
    assert raised.value.args == (3,)
    assert [queue.get() for _ in range(3)] == ["a", "b", "c"]


def test_put_many_with_an_item_that_cannot_be_pickled():
    queue = context.Queue()
    with pytest.raises(TypeError):
        queue.put_many([1, 2, threading.Lock(), 3])
    assert queue.get_many() == [1, 2] and queue.empty()


def test_put_many_of_large_and_small_items_keeps_the_order():
    queue = context.Queue()
    items = [b"x" * size for size in [1, 2, 3000, 5000, 4, 100_000, 7, 8] * 20]
    queue.put_many(items)
    got = []
    while len(got) < len(items):
        got += queue.get_many(7)
    assert got == items


def test_an_item_that_cannot_be_unpickled_costs_itself_only():
    queue = context.Queue()
    queue.put_many([1, Poison(), 2, 3])
    got, errors = [], 0
    while not queue.empty():
        try:
            got += queue.get_many()
        except ZeroDivisionError:
            errors += 1
    assert (got, errors) == ([1, 2, 3], 1)


def test_what_a_batch_left_over_is_given_out_once():
    queue, seen = context.Queue(), context.SimpleQueue()
    queue.put_many([1, Poison(), 2, 3])
    assert queue.get_many() == [1]
    assert queue.qsize() == 3
    child = context.Process(target=report_rest, args=(queue, seen))
    child.start()
    assert seen.get() == (0, [])
    with pytest.raises(ZeroDivisionError):
        queue.get()
    assert queue.get_many() == [2]
    assert queue.get() == 3 and queue.empty()
    child.join()


def report_rest(queue, seen):
    size, rest = queue.qsize(), []
    while not queue.empty():
        rest.append(queue.get())
    seen.put((size, rest))


class Poison:
    def __reduce__(self):
        return divmod, (1, 0)


# ---- errors

def test_what_cannot_be_pickled_raises_in_put_and_changes_nothing():
    queue = context.JoinableQueue(1)
    with pytest.raises(TypeError, match="cannot pickle"):
        queue.put(threading.Lock())
    assert queue.empty()
    queue.put(1, False)
    assert queue.get() == 1
    queue.task_done()
    queue.join()


@pytest.mark.parametrize("make", (context.Queue, context.JoinableQueue))
def test_a_closed_queue(make):
    queue = make()
    with pytest.raises(AssertionError, match="not closed"):
        queue.join_thread()
    queue.put(1)
    queue.close()
    for call in (lambda: queue.put(2), queue.get, queue.get_nowait, lambda: queue.put_many([1]), queue.get_many):
        with pytest.raises(ValueError) as raised:
            call()
        assert str(raised.value) == f"Queue {queue!r} is closed"
    queue.join_thread()
    queue.cancel_join_thread()
    queue.close()
    with pytest.raises(OSError, match="handle is closed"):
        queue.empty()
    unused = make()
    unused.close()
    assert unused.empty()


def test_a_closed_simple_queue():
    queue = context.SimpleQueue()
    queue.put(1)
    queue.close()
    assert queue._reader.closed and queue._writer.closed
    for call in (lambda: queue.put(2), queue.get, queue.empty):
        with pytest.raises(OSError, match="handle is closed"):
            call()


def test_closing_in_one_process_leaves_the_others():
    queue, answers = context.Queue(), context.SimpleQueue()

    def work():
        answers.put(queue.get())
        answers.put(queue.get())

    child = start(work)
    queue.put(1)
    assert answers.get() == 1
    queue.put(2)
    queue.close()
    assert answers.get() == 2
    end(child)


# ---- tasks

def test_joining_a_joinable_queue():
    queue = context.JoinableQueue()
    queue.join()
    with pytest.raises(ValueError) as raised:
        queue.task_done()
    assert str(raised.value) == "task_done() called too many times"
    done = context.SimpleQueue()

    def work():
        for item in iter(queue.get, None):
            done.put(item)
            queue.task_done()
        queue.task_done()

    child = start(work)
    for i in range(100):
        queue.put(i)
    queue.put(None)
    queue.join()
    assert [done.get() for _ in range(100)] == list(range(100))
    end(child)


# ---- many processes and threads

def produce(queue, who, count):
    for i in range(count):
        queue.put((who, i))


@pytest.mark.parametrize("make", KINDS)
def test_many_producers_and_consumers_lose_nothing_and_keep_order(make):
    queue, results = make(), context.SimpleQueue()
    producers, consumers, count = 3, 3, 2000

    def consume():
        results.put(list(iter(queue.get, None)))

    takers = [start(consume) for _ in range(consumers)]
    makers = [start(produce, queue, who, count) for who in range(producers)]
    end(*makers)
    for _ in takers:
        queue.put(None)
    lists = [results.get() for _ in takers]
    end(*takers)
    for got in lists:
        for who in range(producers):
            mine = [i for by, i in got if by == who]
            assert mine == sorted(mine)
    assert sorted(sum(lists, [])) == [(who, i) for who in range(producers) for i in range(count)]


def test_threads_and_processes_mixed_on_a_bounded_queue():
    queue, results = context.Queue(5), context.Queue()
    count = 300

    def consume():
        for item in iter(queue.get, None):
            results.put(item)

    takers = [start(consume), threading.Thread(target=consume)]
    takers[1].start()
    makers = [start(produce, queue, 0, count), threading.Thread(target=produce, args=(queue, 1, count))]
    makers[1].start()
    for maker in makers:
        maker.join()
    for _ in takers:
        queue.put(None)
    for taker in takers:
        taker.join()
    got = results.get_many()
    while len(got) < 2 * count:
        got += results.get_many(timeout=60)
    assert sorted(got) == [(who, i) for who in (0, 1) for i in range(count)]


def test_a_child_that_put_large_items_can_be_joined_before_they_are_taken():
    queue = context.Queue()
    child = start(lambda: queue.put_many([b"x" * 3_000_000] * 5))
    end(child)
    assert [len(queue.get()) for _ in range(5)] == [3_000_000] * 5


def test_what_was_put_survives_the_death_of_its_producer():
    queue = context.Queue()

    def work():
        queue.put("small")
        queue.put("x" * 100_000)
        os.kill(os.getpid(), signal.SIGKILL)

    child = start(work)
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert queue.get(timeout=60) == "small"
    assert len(queue.get(timeout=60)) == 100_000


@pytest.mark.parametrize("method", METHODS)
def test_queues_reach_children_and_processes_that_run(method):
    ctx = mpfast.get_context(method)
    outer, results = ctx.Queue(), ctx.SimpleQueue()
    child = ctx.Process(target=use_queue_from_queue, args=(outer, results))
    child.start()
    inner = ctx.JoinableQueue(3)
    outer.put(inner)
    inner.put("through the inner one")
    inner.join()
    assert results.get() == "through the inner one"
    child.join()
    assert child.exitcode == 0


def use_queue_from_queue(outer, results):
    inner = outer.get()
    results.put(inner.get())
    inner.task_done()


# ---- signals, idling

@pytest.mark.parametrize("make", KINDS)
def test_a_signal_ends_get_at_once(make, interrupt):
    queue = make()
    interrupt(queue.get)
    queue.put(1)
    assert queue.get() == 1


def test_a_signal_ends_put_and_join_at_once(interrupt):
    queue = context.JoinableQueue(1)
    queue.put(1)
    for call in (lambda: queue.put(2), queue.join, lambda: queue.put_many([2]), lambda: queue.put(2, timeout=1000)):
        interrupt(call)
    assert queue.qsize() == 1


def test_control_c_ends_a_program_that_waits(python, tmp_path):
    (tmp_path / "program.py").write_text("""
import mpfast, os, signal, threading
queue = mpfast.Queue()
try:
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    queue.get()
except KeyboardInterrupt:
    print("interrupted")
""")
    done = python("program.py")
    assert (done.stdout, done.stderr) == ("interrupted\n", "")


def test_waiting_uses_no_cpu():
    queue, used = context.Queue(), context.SimpleQueue()

    def work():
        before = time.process_time()
        queue.get()
        used.put(time.process_time() - before)

    child = start(work)
    with pytest.raises(Empty):
        context.Queue().get(timeout=1.5)  # nothing to do with it; lets time pass
    queue.put(None)
    assert used.get() < 0.5
    end(child)


# ---- costs that a user can count

def test_a_queue_needs_no_descriptor_and_no_thread():
    before = len(os.listdir("/proc/self/fd")), threading.active_count()
    made = [context.Queue() for _ in range(2000)]
    for queue in made:
        queue.put(1)
    assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == before
    assert all(queue.get() == 1 for queue in made)


def test_memory_is_given_back():
    queue = context.Queue()
    for _ in range(200):
        queue.put(b"x" * 1_000_000)
        queue.get()
    del queue
    queue = context.Queue()
    queue.put_many([b"x" * 1000] * 100_000)
    assert len(queue.get()) == 1000


def _answer(q):
    for _ in range(20):
        _, n = q.get()
        while not q._awaited():
            pass
        q.put(("answer", n + 1))


def test_a_request_is_not_taken_back_by_who_put_it_while_another_waits():
    q = mpfast.get_context("fork").Queue()
    p = mpfast.get_context("fork").Process(target=_answer, args=(q,))
    p.start()
    for n in range(20):
        while not q._awaited():
            pass
        q.put(("request", n))
        assert q.get(timeout=30) == ("answer", n + 1)
    p.join()
