"""The heap that programs use themselves: arenas of shared memory, blocks, buffers."""
import gc
import multiprocessing.heap as stdlib
import pickle
import sys

import pytest

import mpfast
from mpfast import _native, heap
from mpfast.reduction import ForkingPickler

pytestmark = pytest.mark.skipif(not _native.ENABLED, reason="the native part is not there")

METHODS = ("fork", "spawn", "forkserver")
LONG = 30  # seconds


@pytest.fixture
def fresh_heap(monkeypatch):
    monkeypatch.setattr(heap.BufferWrapper, "_heap", heap.Heap())
    return heap.BufferWrapper._heap


def test_classes_are_the_standard_librarys():
    assert issubclass(heap.Heap, stdlib.Heap)
    assert issubclass(heap.Arena, stdlib.Arena)
    assert isinstance(heap.BufferWrapper(5), stdlib.BufferWrapper)


def test_buffers_are_blocks_of_the_heap(fresh_heap):
    first, second = heap.BufferWrapper(10), heap.BufferWrapper(5000)
    for wrapper, size in ((first, 10), (second, 5000)):
        (arena, start, stop), given = wrapper._state
        assert (given, arena in fresh_heap._arenas, stop - start >= size) == (size, True, True)
        view = wrapper.create_memoryview()
        assert (view.nbytes, view.readonly) == (size, False)
        view[:] = bytes(range(10)) * (size // 10)
    assert first.create_memoryview().tobytes() == bytes(range(10))
    assert first.create_memoryview().obj is not second.create_memoryview().obj or fresh_heap._n_mallocs == 2


def test_freed_blocks_are_used_again(fresh_heap):
    fresh_heap._DISCARD_FREE_SPACE_LARGER_THAN = 0
    wrappers = [heap.BufferWrapper(size) for size in (1, 8, 100, 5000, 100, 0)]
    gc.collect()
    del wrappers[1:3]
    heap.BufferWrapper(90)
    wrappers.clear()
    gc.collect()
    assert fresh_heap._n_mallocs == fresh_heap._n_frees == 7
    assert not fresh_heap._arenas and not fresh_heap._len_to_seq and not fresh_heap._allocated_blocks


def test_arenas_are_given_back(code):  # in a process of its own: there, nothing that others leave goes meanwhile
    assert code("""
import gc
from mpfast import _core, heap

def live_blocks():
    gc.collect()
    return _core.stats()["blocks"]

heap.BufferWrapper._heap._DISCARD_FREE_SPACE_LARGER_THAN = 0
before = live_blocks()
wrapper = heap.BufferWrapper(100_000)
view = wrapper.create_memoryview()
print(live_blocks() != before)
del wrapper
view[5] = 1  # the memory is there as long as somebody looks at it
print(live_blocks() != before)
del view
print(live_blocks() == before)
""") == "True\nTrue\nTrue\n"


@pytest.mark.parametrize("size, error", [(-1, ValueError), (sys.maxsize, OverflowError), (10**30, OverflowError)])
def test_sizes_that_cannot_be(size, error):
    for module in (stdlib, heap):
        with pytest.raises(error):
            module.BufferWrapper(size)
        with pytest.raises(error):
            module.Heap().malloc(size)


def test_lack_of_memory_is_an_error():
    with pytest.raises(OSError):
        heap.BufferWrapper(2**50)


def test_an_arena_of_a_file(tmp_path):
    import os
    with open(tmp_path / "file", "w+b") as file:
        file.truncate(8192)
        arena = heap.Arena(8192, os.dup(file.fileno()))
        arena.buffer[:5] = b"hello"
        file.seek(0)
        assert file.read(5) == b"hello"
        os.close(arena.fd)
    with pytest.raises(ValueError):
        ForkingPickler.dumps(_without_descriptor())


def _without_descriptor():
    import mmap
    arena = heap.Arena.__new__(heap.Arena)
    arena.size, arena.fd, arena.buffer = 4096, -1, mmap.mmap(-1, 4096)
    return arena


def test_buffers_are_pickled_by_reference():
    wrapper = heap.BufferWrapper(20)
    other = pickle.loads(ForkingPickler.dumps(wrapper))
    other.create_memoryview()[3] = 9
    assert wrapper.create_memoryview()[3] == 9


def fill(wrapper):
    wrapper.create_memoryview()[:] = b"child"
    assert heap.BufferWrapper(100).create_memoryview()[0] == 0


@pytest.mark.parametrize("method", METHODS)
def test_children_see_the_same_memory(method):
    ctx = mpfast.get_context(method)
    wrapper = heap.BufferWrapper(5)
    process = ctx.Process(target=fill, args=(wrapper,))
    process.start()
    process.join(LONG)
    assert process.exitcode == 0
    assert bytes(wrapper.create_memoryview()) == b"child"


def test_freeing_in_a_collection_does_not_deadlock():
    thresholds = gc.get_threshold()
    gc.set_threshold(10)
    try:
        for _ in range(2000):
            first, second = heap.BufferWrapper(1), heap.BufferWrapper(1)
            first.buddy, second.buddy = second, first
    finally:
        gc.set_threshold(*thresholds)
