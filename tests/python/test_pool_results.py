"""Pools: the results that their methods return, and the callbacks that hear of them."""
import os
import platform
import resource
import sysconfig
import threading

import pytest
from pool_tasks import LONG, fail, fork, square, until, wait_for

import mpfast
import mpfast.pool

pytestmark = pytest.mark.skipif(not hasattr(mpfast.pool.Pool, "_supervisor"), reason="no native pool here")


def test_results_are_the_stdlibs(forked):
    stdlib = mpfast._install.original("multiprocessing.pool", "ApplyResult")
    event = fork.Event()
    result = forked.apply_async(wait_for, (event, 5))
    assert isinstance(result, stdlib) and isinstance(result, mpfast.pool.AsyncResult)
    assert isinstance(forked.map_async(square, [1]), mpfast.pool.MapResult)
    assert isinstance(forked.imap(square, [1]), mpfast.pool.IMapIterator)
    assert isinstance(forked.imap_unordered(square, [1]), mpfast.pool.IMapUnorderedIterator)
    assert repr(result).startswith("<multiprocessing.pool.ApplyResult object at ")
    assert not result.ready()
    with pytest.raises(ValueError, match="not ready"):
        result.successful()
    with pytest.raises(mpfast.TimeoutError):
        result.get(0.01)
    assert result.wait(0.01) is None
    event.set()
    result.wait(LONG)
    assert result.ready() and result.successful() and result.get() == (5,)


def test_a_result_that_failed(forked):
    result = forked.apply_async(fail, (1,))
    result.wait(LONG)
    assert result.ready() and not result.successful()
    for _ in range(2):
        with pytest.raises(KeyError):
            result.get()


def test_pieces_left_of_a_map(forked):
    event = fork.Event()
    result = forked.map_async(wait_for, [event] * 6, chunksize=2)
    assert (result._number_left, result._chunksize) == (3, 2)
    event.set()
    assert result.get(LONG) == [()] * 6
    assert result._number_left == 0


def test_next_with_a_timeout(forked):
    event = fork.Event()
    for method in (forked.imap, forked.imap_unordered):
        event.clear()
        iterator = method(wait_for, [event, event])
        with pytest.raises(mpfast.TimeoutError):
            iterator.next(timeout=0.01)
        event.set()
        assert iterator.next(timeout=LONG) == ()
        assert iterator.next(LONG) == ()
        with pytest.raises(StopIteration):
            iterator.next(LONG)


def identity(x):
    return x


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc" or bool(sysconfig.get_config_var("Py_GIL_DISABLED")) or
                    "PYTHONMALLOC" in os.environ, reason="another allocator")
def test_memory_of_large_results_is_used_again(forked):
    items = [bytes([i]) * (1 << 20) for i in range(24)]
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        assert forked.map(identity, items) == items
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    assert faults < 24 * (1 << 20) // resource.getpagesize() // 2


# ---- callbacks

def test_callbacks(forked):
    calls = []
    threads = set()

    def note(value):
        threads.add(threading.current_thread())
        calls.append(value)
    results = [forked.apply_async(square, (i,), callback=note, error_callback=calls.append) for i in range(50)]
    for result in results:
        result.wait(LONG)
    assert sorted(calls) == [i * i for i in range(50)]
    assert len(threads) == 1 and threading.current_thread() not in threads
    calls.clear()
    forked.map_async(square, range(5), callback=calls.append).wait(LONG)
    assert calls == [[0, 1, 4, 9, 16]]
    calls.clear()
    forked.apply_async(fail, (3,), callback=note, error_callback=calls.append).wait(LONG)
    assert [type(error) for error in calls] == [KeyError]


def test_a_callback_without_anybody_who_waits(forked):
    called = threading.Event()
    forked.apply_async(square, (2,), callback=lambda value: called.set())
    assert called.wait(LONG)


def test_a_callback_uses_the_pool(forked):
    values = []
    results = [forked.apply_async(square, (3,), callback=lambda value: values.append(forked.apply(square, (value,))))]
    results[0].get(LONG)
    assert values == [81]


@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit])
def test_a_callback_that_raises_is_reported(forked, monkeypatch, error):
    def callback(value):
        raise error

    reported = []
    monkeypatch.setattr(threading, "excepthook", lambda what: reported.append(what.exc_type))
    result = forked.apply_async(square, (3,), callback=callback)
    assert result.get(LONG) == 9
    until(lambda: reported)
    assert reported == [error]
    heard = threading.Event()
    assert forked.apply_async(square, (4,), callback=lambda value: heard.set()).get(LONG) == 16
    assert heard.wait(LONG)
    forked.close()
    forked.join()


def _use_up_descriptors():
    import resource
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    with pytest.raises(OSError):
        while True:
            os.dup(2)


def test_a_callback_of_a_worker_that_has_no_descriptor_left(forked):
    heard = threading.Event()
    forked.apply_async(_use_up_descriptors, callback=lambda value: heard.set())
    assert heard.wait(LONG)
