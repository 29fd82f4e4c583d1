"""Pools: what their methods return, and the arguments they take."""
import os
import sys
import threading

import pytest
from pool_tasks import LONG, add, fail, fork, own_pid, square

import mpfast
import mpfast.pool

pytestmark = pytest.mark.skipif(not hasattr(mpfast.pool.Pool, "_supervisor"), reason="no native pool here")


def test_apply(pool):
    assert pool.apply(square, (7,)) == 49
    assert pool.apply(add, (1,), {"b": 2}) == 3
    assert pool.apply(add, [1, 2]) == 3
    assert pool.apply_async(square, (8,)).get(LONG) == 64


def test_maps(pool):
    items = list(range(1000))
    squares = [x * x for x in items]
    assert pool.map(square, items) == squares
    assert pool.map(square, iter(items)) == squares
    assert pool.map_async(square, items, 7).get(LONG) == squares
    pairs = list(zip(items, items[::-1]))
    assert pool.starmap(add, pairs) == [999] * 1000
    assert pool.starmap_async(add, pairs, chunksize=13).get(LONG) == [999] * 1000
    assert list(pool.imap(square, items)) == squares
    assert list(pool.imap(square, items, 50)) == squares
    assert sorted(pool.imap_unordered(square, items)) == squares
    assert sorted(pool.imap_unordered(square, items, 50)) == squares


def test_nothing_to_do(forked):
    assert forked.map(square, []) == []
    assert forked.map(square, [], chunksize=3) == []
    assert forked.map(square, range(2), chunksize=0) == [None, None]
    assert forked.starmap(add, []) == []
    assert list(forked.imap(square, [])) == []
    assert list(forked.imap_unordered(square, iter(()))) == []
    result = forked.map_async(square, [])
    assert result.ready() and result.successful() and result.get() == []


def test_pieces_are_as_large_as_asked(forked):
    pids = forked.map(own_pid, range(10), chunksize=5)
    assert len(set(pids[:5])) == 1 and len(set(pids[5:])) == 1


def test_many_tasks(forked):
    results = [forked.apply_async(add, (i, 1)) for i in range(5000)]
    assert [result.get(LONG) for result in results] == list(range(1, 5001))


def test_shared_objects_as_arguments(forked):
    lock, event, queue = fork.Lock(), fork.Event(), fork.Queue()
    assert forked.apply(_use, (lock, event, queue)) is True
    assert event.is_set() and queue.get(timeout=LONG) == "put"


def _use(lock, event, queue):
    with lock:
        event.set()
        queue.put("put")
    return True


def test_threads_of_the_parent_share_a_pool(forked):
    sums = []

    def use(first):
        sums.append(sum(forked.map(square, range(first, first + 300))))
        sums.extend(forked.apply(square, (first,)) for _ in range(20))
    threads = [threading.Thread(target=use, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    expected = [sum(map(square, range(first, first + 300))) for first in range(4)]
    expected += [first * first for first in range(4) for _ in range(20)]
    assert sorted(sums) == sorted(expected)


class CountsItsCopies:
    copies = 0  # that were made in this process

    def __getstate__(self):
        return "sent"

    def __setstate__(self, state):
        CountsItsCopies.copies += 1

    def __call__(self, item):
        return CountsItsCopies.copies


def test_the_function_of_a_map_is_sent_to_a_worker_once(pool):
    assert set(pool.map(CountsItsCopies(), range(200), chunksize=1)) == {1}
    assert set(pool.imap(CountsItsCopies(), range(200), chunksize=3)) <= {1, 2}


@pytest.mark.parametrize("arguments, error", [
    ({"processes": 0}, ValueError), ({"processes": -1}, ValueError), ({"initializer": 1}, TypeError),
    ({"maxtasksperchild": 0}, ValueError), ({"maxtasksperchild": 0.5}, ValueError), ({"maxtasksperchild": "1"}, ValueError),
    ({"max_memory_per_child": 0}, ValueError), ({"max_memory_per_child": "1"}, ValueError),
])
def test_bad_settings(arguments, error):
    with pytest.raises(error):
        mpfast.pool.Pool(**{"processes": 1, **arguments})


def test_bad_arguments(forked):
    with pytest.raises(TypeError):
        forked.map(square, 5)
    with pytest.raises(ValueError):
        forked.imap(square, [1], chunksize=0)
    with pytest.raises(ValueError):
        forked.imap_unordered(square, [1], chunksize=0)
    with pytest.raises(ValueError):
        forked.imap(square, [1], buffersize=0)
    with pytest.raises(ValueError):
        forked.resize(0)


def test_progress(forked, capfd, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    assert forked.map(square, range(30), progress=True) == [x * x for x in range(30)]
    assert capfd.readouterr().err.endswith("30/30\n")
    assert list(forked.imap(square, range(30), 7, progress=True)) == [x * x for x in range(30)]
    assert capfd.readouterr().err.endswith("30/30\n")
    assert sorted(forked.imap_unordered(square, iter(range(30)), progress=True)) == [x * x for x in range(30)]
    assert capfd.readouterr().err.endswith("\r30\n")


def test_progress_by_tqdm(forked, capfd):
    pytest.importorskip("tqdm.auto")
    assert forked.map(square, range(30), progress=True) == [x * x for x in range(30)]
    assert "| 30/30 [" in capfd.readouterr().err
    assert list(forked.imap(square, range(30), progress=True)) == [x * x for x in range(30)]
    assert "| 30/30 [" in capfd.readouterr().err


def test_thread_pool():
    with mpfast.pool.ThreadPool(2) as pool:
        assert isinstance(pool, mpfast.pool.Pool)
        assert repr(pool) == "<multiprocessing.pool.ThreadPool state=RUN pool_size=2>"
        assert pool.map(lambda x: x + 1, range(5)) == [1, 2, 3, 4, 5]
        assert pool.apply(os.getpid) == os.getpid()
        assert list(pool.imap(lambda x: x, "abc", 2)) == ["a", "b", "c"]
        with pytest.raises(KeyError) as caught:
            pool.apply(fail, (1,))
        assert caught.value.__cause__ is None
    pool.join()
