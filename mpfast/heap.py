"""A mirror of :mod:`multiprocessing.heap` whose arenas are native shared memory.

Values and arrays do not go through it: each has memory of its own.  It is for programs that use :class:`BufferWrapper` or
:class:`Heap` themselves.  Differences from the standard library: arenas, and so buffers, can be pickled at any time, and an
arena has no descriptor (``fd`` is -1) unless it was made of one.
"""
from ._mirror import mirror
from ._native import native

mirror(__name__)

if native("Storage") is not None:
    import mmap
    import sys

    from . import _core
    from ._install import original
    from .context import reduction
    from .util import Finalize, info

    _STDLIB = "multiprocessing.heap"

    __all__ = ["BufferWrapper"]


    class Arena(original(_STDLIB, "Arena")):
        """*size* bytes of shared memory: ``buffer``.  fd: a descriptor of a file of that size to map instead."""

        def __init__(self, size, fd=-1):
            if fd != -1:
                super().__init__(size, fd)
                return
            self.size = size
            self.fd = fd
            self.buffer = _core.Storage(size)


    def reduce_arena(arena):
        if isinstance(arena.buffer, _core.Storage):
            return _attach_arena, (arena.size, *arena.buffer.dump())
        return original(_STDLIB, "reduce_arena")(arena)


    def _attach_arena(size, *dumped):
        arena = Arena.__new__(Arena)
        arena.size = size
        arena.fd = -1
        arena.buffer = _core.Storage.load(*dumped)
        return arena


    reduction.register(Arena, reduce_arena)


    class Heap(original(_STDLIB, "Heap")):
        """Hands out blocks of arenas: ``malloc(size)`` returns (arena, start, stop), which ``free`` takes back."""

        def _new_arena(self, size):
            length = self._roundup(max(self._size, size), mmap.PAGESIZE)
            if self._size < self._DOUBLE_ARENA_SIZE_UNTIL:
                self._size *= 2
            info("allocating a new arena of length %d", length)
            arena = Arena(length)
            self._arenas.append(arena)
            return arena, 0, length


    class BufferWrapper(original(_STDLIB, "BufferWrapper")):
        """*size* bytes of shared memory out of the heap; ValueError: negative, OverflowError: too large."""

        _heap = Heap()

        def __init__(self, size):
            if size < 0:
                raise ValueError("Size {0:n} out of range".format(size))
            if sys.maxsize <= size:
                raise OverflowError("Size {0:n} too large".format(size))
            heap = BufferWrapper._heap
            block = heap.malloc(size)
            self._state = (block, size)
            Finalize(self, heap.free, args=(block,))
