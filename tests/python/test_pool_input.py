"""Pools: the input of maps, what it may be and how far ahead it is read."""
import itertools
import threading

import pytest
from pool_tasks import LONG, square

import mpfast.pool

pytestmark = pytest.mark.skipif(not hasattr(mpfast.pool.Pool, "_supervisor"), reason="no native pool here")


@pytest.mark.parametrize("make", [tuple, list, set, dict.fromkeys, lambda items: (x for x in items), iter])
def test_kinds_of_input(forked, make):
    items = make(range(100))
    assert sorted(forked.map(square, items)) == [x * x for x in range(100)]
    assert list(forked.imap(square, make(range(100)), 3)) == [x * x for x in range(100)]


def test_more_than_fits_at_a_time(forked):
    block = bytes(1 << 20)
    assert forked.map(len, itertools.repeat(block, 400), chunksize=1) == [1 << 20] * 400
    assert sum(forked.imap(len, (block for _ in range(400)))) == 400 << 20


def test_an_input_that_waits_for_results(forked):
    results = []
    arrived = threading.Semaphore(0)

    def items():
        for i in range(20):
            yield i
            assert arrived.acquire(timeout=LONG)
    for value in forked.imap(square, items()):
        results.append(value)
        arrived.release()
    assert results == [i * i for i in range(20)]


def test_an_endless_input_that_nobody_finishes(forked):
    iterator = forked.imap(square, itertools.count(), buffersize=5)
    assert list(itertools.islice(iterator, 20)) == [i * i for i in range(20)]


@pytest.mark.parametrize("chunksize", [1, 3])
def test_buffersize_bounds_what_is_read(forked, chunksize):
    read = itertools.count()
    last = [0]

    def items():
        for i in range(60):
            last[0] = next(read) + 1
            yield i
    iterator = forked.imap_unordered(square, items(), chunksize, buffersize=6)
    given = []
    for value in iterator:
        assert last[0] <= len(given) + 6 + chunksize
        given.append(value)
    assert sorted(given) == [i * i for i in range(60)]


def _items_then_error(count):
    yield from range(count)
    raise LookupError("no more")


def test_an_input_that_raises(forked):
    with pytest.raises(LookupError):
        forked.map(square, _items_then_error(5))
    for method, chunksize in itertools.product((forked.imap, forked.imap_unordered), (1, 3)):
        iterator = method(square, _items_then_error(6), chunksize)
        taken = []
        with pytest.raises(LookupError):
            while True:
                taken.append(next(iterator))
        assert sorted(taken) == [0, 1, 4, 9, 16, 25]  # all that came before the error, in the order of the input or not
        if method == forked.imap:
            assert taken == sorted(taken)
        assert list(iterator) == []


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
def test_an_input_that_raises_what_ends_programs(forked, method, error):
    def items():
        yield 2
        raise error

    iterator = getattr(forked, method)(square, items())
    assert iterator.next(LONG) == 4
    with pytest.raises(type(error)):
        iterator.next(LONG)
    forked.close()
    forked.join()


def test_an_input_that_gets_no_thread(forked, monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start"):
            forked.imap(square, iter([1]))
    forked.close()
    forked.join()
