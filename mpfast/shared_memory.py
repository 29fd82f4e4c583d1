"""A mirror of :mod:`multiprocessing.shared_memory` with native memory and lists.

The names and what is in the memory are the standard library's: its processes attach to the same.  Differences:

- The memory is there when the constructor returns: too little of it is an :class:`OSError`, not a SIGBUS later.
- Attaching does not register with the resource tracker, unless ``track=True`` is given: what an unrelated process attaches
  to is not destroyed when that ends, and nobody is warned of a leak of what somebody else has unlinked.
- ``track`` is there on every version.
- Attaching that fails does not unlink.
- ``_mmap`` is a native mapping: a buffer with ``close()``, ``closed``, ``size()``, ``flush()`` and ``madvise()``.
"""
from ._mirror import mirror
from ._native import native

mirror(__name__)

if native("Mapping") is not None:
    import functools
    import multiprocessing.resource_tracker as _tracker
    import multiprocessing.shared_memory as _stdlib
    import os
    import types

    import _posixshmem

    from . import _core, _shared_memory_names
    from ._install import original

    _STDLIB = "multiprocessing.shared_memory"
    _StdlibSharedMemory = original(_STDLIB, "SharedMemory")
    _StdlibShareableList = original(_STDLIB, "ShareableList")
    _CREATE = os.O_CREAT | os.O_EXCL | os.O_RDWR
    _map = _core.Mapping.of

    __all__ = ["SharedMemory", "ShareableList"]


    #: The default of *track*: equal to the standard library's, True, and yet to be told from a True that was passed.
    _BY_ORIGIN = 1

    # What C does not: other than new memory of any name, or attaching, for an object of this very class.

    def _begin(self, name=None, create=False, size=0, *, track=_BY_ORIGIN):
        if not size >= 0:
            raise ValueError("'size' must be a positive integer")
        if create:
            self._flags = _CREATE
            if size == 0:
                raise ValueError("'size' must be a positive number different from zero")
        if name is None and not self._flags & os.O_EXCL:
            raise ValueError("'name' can only be None if create=True")
        _open(self, name)
        try:
            self._mmap, self._size, inode = _map(self._fd, size if create else 0)
        except BaseException:
            if create:
                _posixshmem.shm_unlink(self._name)
            self.close()
            raise
        self._buf = memoryview(self._mmap)
        self._track = bool(track)
        if track and (create or track is not _BY_ORIGIN):
            _shared_memory_names.register(self._name, inode)


    def _open(self, name):
        """Open the file of that name, or of a new one."""
        if name is not None:
            name = "/" + name if self._prepend_leading_slash else name
            self._fd = _posixshmem.shm_open(name, self._flags, self._mode)
            self._name = name
            return
        while True:
            name = _stdlib._make_filename()
            try:
                self._fd = _posixshmem.shm_open(name, self._flags, self._mode)
            except FileExistsError:
                continue
            self._name = name
            return


    def _close(self):
        if self._buf is not None:
            self._buf.release()
            self._buf = None
        if self._mmap is not None:
            self._mmap.close()
            self._mmap = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


    def _unlink(self):
        if self._name:
            _posixshmem.shm_unlink(self._name)
            if self._track:
                _shared_memory_names.unregister(self._name)


    class SharedMemory(_core.SharedMemory, _StdlibSharedMemory):
        """A block of shared memory that has a name.

        name: its name; None for a new one that nobody has.  create: make it (FileExistsError: the name is taken), else attach
        to it (FileNotFoundError: there is none).  size: how many bytes to make, at least 1.  track: whether the resource tracker
        shall unlink it when this process and its relatives have ended; by default what is created is tracked, and what
        is attached to is not.

        ValueError: no name to attach to, or a size that is none; OSError: the memory is not to be had.
        """

        _track = True

        def __reduce__(self):
            make = _attach if type(self) is SharedMemory else type(self)
            return make, (self.name, False, self.size)


    _begin.__name__, _begin.__qualname__ = "__init__", "SharedMemory.__init__"
    _core._set_shared_memory(SharedMemory, _begin, _close, _unlink, vars(_stdlib), _stdlib._make_filename, vars(_posixshmem),
                             _posixshmem.shm_open, _posixshmem.shm_unlink, vars(_tracker), *_shared_memory_names._known)


    def _attach(name, create, size):
        return SharedMemory(name, create, size)


    # The standard library's constructor, which makes a SharedMemory of this package.
    _fill = types.FunctionType(_StdlibShareableList.__init__.__code__, {**vars(_stdlib), "SharedMemory": SharedMemory})
    _fill.__kwdefaults__ = _StdlibShareableList.__init__.__kwdefaults__
    _fill.__defaults__ = _StdlibShareableList.__init__.__defaults__


    class ShareableList(_core.ShareableList, _StdlibShareableList):
        """A list in a SharedMemory whose items can be replaced: None, bool, int (64 bits), float, str and bytes.

        sequence: the items; a str or bytes item can be replaced by one that is as long, rounded up to 8 bytes.  name: the
        SharedMemory's, to make with the items, or to attach to where there are none.
        """

        def __init__(self, sequence=None, *, name=None):
            _fill(self, sequence, name=name)

        def __reduce__(self):
            make = _attach_list if type(self) is ShareableList else type(self)
            return functools.partial(make, name=self.shm.name), ()


    def _attach_list(*, name):
        return ShareableList(name=name)


    _core._set_shareable_list(_StdlibShareableList)
    for _cls in (SharedMemory, ShareableList):
        _cls.__module__ = _STDLIB
    del _cls
