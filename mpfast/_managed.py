"""What a local manager makes: proxies that are the shared objects themselves.

A class here is a proxy class of the standard library, for ``isinstance``, ``repr`` and whatever programs do with a proxy, and
either is a native shared object, too, or has one in ``_cell``.  No method asks a server.  A server is needed when somebody
asks who cannot reach the shared memory: then it *adopts* the object, which it reaches like any other process of the
program, and serves it under a token.  Where objects are pickled for such a reader, :data:`strangers` says so.
"""
import array
import contextlib
import errno
import multiprocessing.managers as _stdlib
import multiprocessing.process as _process
import os
import sys
import threading
import time
from traceback import format_exc

from . import _core
from ._install import original
from .util import Finalize

_STDLIB = "multiprocessing.managers"
_BaseProxy = original(_STDLIB, "BaseProxy")
_Namespace = original(_STDLIB, "Namespace")
_Value = original(_STDLIB, "Value")
_KINDS: dict = {}  # name of the type -> class

_SHUT_DOWN = (errno.EPIPE, os.strerror(errno.EPIPE))


class _Strangers(threading.local):
    """Whether this thread pickles for a reader that need not have this program's shared memory."""

    reading = False

    @contextlib.contextmanager
    def read(self, reading=True):
        former, self.reading = self.reading, reading
        try:
            yield
        finally:
            self.reading = former


strangers = _Strangers()


def _kind(typeid, wire=None):
    """A class decorator: the class is what a local manager makes for *typeid*.

    wire: what makes the proxy in a process without the shared memory, the standard library's class or function.
    """
    def decorate(cls):
        _KINDS[typeid] = cls
        cls._typeid = typeid
        cls._wire = staticmethod(wire or _stdlib.AutoProxy)
        cls._isauto = wire is None
        cls.__module__ = _STDLIB
        cls.__qualname__ = cls.__name__ = wire.__name__ if wire is not None else f"AutoProxy[{typeid}]"
        return _core.own_methods(cls)

    return decorate


def kind(typeid):
    """The class for *typeid*, None where a local manager needs its server for it."""
    return _KINDS.get(typeid)


def make(typeid, manager, args, kwargs):
    """Returns a new object of *typeid*, made by *manager*; RemoteError, as from a server, where that fails."""
    cls = _KINDS[typeid]
    proxy = cls.__new__(cls)
    try:
        proxy._make(manager, *args, **kwargs)
    except Exception:
        raise _stdlib.RemoteError(format_exc()) from None
    proxy._manager = manager
    return proxy


def _new(typeid):
    cls = _KINDS[typeid]
    return cls.__new__(cls)


class Arena:
    """Mixed into the classes here, before the standard library's proxy class."""

    _manager = None
    _serializer = "pickle"
    _owned_by_manager = False

    def __reduce_ex__(self, protocol):
        if strangers.reading:
            kwds = {"exposed": self._exposed_} if self._isauto else {}
            return _stdlib.RebuildProxy, (self._wire, self._token, self._serializer, kwds)
        return _new, (self._typeid,), self.__getstate__()

    def __reduce__(self):
        return self.__reduce_ex__(2)

    @property
    def _id(self):
        return f"arena-{self._place():x}"

    def _place(self):
        return self._offset

    @property
    def _authkey(self):
        return self._manager._authkey if self._manager is not None else _process.current_process().authkey

    @property
    def _token(self):
        server = getattr(_process.current_process(), "_manager_server", None)
        if hasattr(server, "adopt"):
            server.adopt(None, self._typeid, self, 0)
            return _stdlib.Token(self._typeid, server.address, self._id)
        token = self.__dict__.get("_adopted")
        if token is None:
            token = self.__dict__["_adopted"] = _adopt(self)
        return token

    def _callmethod(self, methodname, args=(), kwds={}):
        if methodname == "#GETVALUE":
            return self._getvalue()
        if methodname in ("__repr__", "__str__"):
            return str(self)
        if methodname not in self._exposed_:
            raise _stdlib.RemoteError(f"AttributeError: method {methodname!r} of {self._typeid!r} object is not in "
                                      f"exposed={self._exposed_!r}\n")
        return self._method(methodname)(*args, **kwds)

    def _method(self, name):
        return getattr(self, name)

    def _getvalue(self):
        # What the standard library says of a lock in its server.
        raise _stdlib.RemoteError(f"Unserializable message: TypeError: cannot pickle '{self._typeid}' object\n")

    def _incref(self):
        """Nothing is to be done: the shared memory counts references itself."""

    _after_fork = _connect = _incref

    def __deepcopy__(self, memo):
        return self._getvalue()

    def __dir__(self):
        # A server looks at every attribute of an object whose methods it is to find: that must not need a server.
        return [name for name in super().__dir__()
                if name != "_token" and not isinstance(getattr(type(self), name, None), _Absent)]

    def __repr__(self):
        return f"<{type(self).__name__} object, typeid {self._typeid!r} at {id(self):#x}>"

    def __str__(self):
        return f"<shared {self._typeid} at {self._place():#x}>"

    __eq__ = object.__eq__
    __ne__ = object.__ne__
    __hash__ = object.__hash__


# Adoption by a server.

def _adopt(proxy):
    """Have the server of its manager serve *proxy*; returns the token."""
    manager = proxy._manager
    if manager is None:
        from .managers import manager_of_strays
        manager = manager_of_strays()
    with strangers.read(False):
        address, authkey, Client = manager._address, manager._authkey, manager._Client
        with contextlib.closing(Client(address, authkey=authkey)) as conn:
            _stdlib.dispatch(conn, None, "adopt", (proxy._typeid, proxy, 1))
    token = _stdlib.Token(proxy._typeid, address, proxy._id)
    Finalize(proxy, _give_up, args=(token, authkey, manager._state, Client), exitpriority=10)
    return token


def _give_up(token, authkey, state, Client):
    if state.value != _stdlib.State.STARTED:
        return
    try:
        with contextlib.closing(Client(token.address, authkey=authkey)) as conn:
            _stdlib.dispatch(conn, None, "decref", (token.id,))
    except Exception:
        pass  # the server has ended


class Served:
    """Stands for a managed object in a server: each attribute is a function that calls the method of that name."""

    __slots__ = ("proxy",)

    def __init__(self, proxy):
        self.proxy = proxy

    def __getattribute__(self, name):
        proxy = object.__getattribute__(self, "proxy")
        return lambda *args, **kwds: proxy._callmethod(name, args, kwds)

    def __repr__(self):
        return str(proxy_of(self))


def proxy_of(served):
    return object.__getattribute__(served, "proxy")


# After the manager has shut down.

_gone: dict = {}  # class -> the class of its objects then


def shut_down(proxy):
    """From now on *proxy* says what the standard library's says when its server has ended."""
    cls = type(proxy)
    if cls not in _gone:
        namespace = {name: _raise_gone for name in {*cls._exposed_, *cls._inside, "_getvalue"}
                     if name not in ("__getattribute__", "__class_getitem__")}
        namespace["__str__"] = lambda self: repr(self)[:-1] + "; '__str__()' failed>"
        namespace["__module__"] = cls.__module__
        _gone[cls] = type(cls.__name__, (cls,), namespace)
    if "_cell" in proxy.__dict__:
        proxy.__dict__["_cell"] = _Gone()
    proxy.__class__ = _gone[cls]


def _raise_gone(self, *args, **kwds):
    raise BrokenPipeError(*_SHUT_DOWN)


class _Gone:
    """What is where the shared contents were."""

    __getitem__ = __setitem__ = __delitem__ = __len__ = __contains__ = __iter__ = __getattr__ = _raise_gone


# Locks.  threading's exceptions, which come from the server's side.

class _Lock(Arena):
    _exposed_ = _stdlib.AcquirerProxy._exposed_
    _inside = ("__enter__", "__exit__")

    def _make(self, manager, *args):
        self._native.__init__(self, *args, ctx=manager._ctx)

    def __exit__(self, *exc_info):
        self.release()

    def _acquire_within(self, blocking, timeout):
        threading.Lock().acquire(blocking, timeout)  # complains where the arguments make no sense
        return self._native.acquire(self, True, None if timeout == -1 else timeout)


@_kind("Lock", _stdlib.AcquirerProxy)
class _ArenaLock(_Lock, _core.Lock, _stdlib.AcquirerProxy):
    _native = _core.Lock

    def acquire(self, blocking=True, timeout=None, _acquire=_core.Lock.acquire):
        return _acquire(self, blocking) if timeout is None else self._acquire_within(blocking, timeout)

    def release(self, _release=_core.Lock.release):
        try:
            _release(self)
        except ValueError:
            raise RuntimeError("release unlocked lock") from None

    def locked(self):
        return self._is_zero()


@_kind("RLock", _stdlib.AcquirerProxy)
class _ArenaRLock(_Lock, _core.RLock, _stdlib.AcquirerProxy):
    _native = _core.RLock

    def acquire(self, blocking=True, timeout=None, _acquire=_core.RLock.acquire):
        return _acquire(self, blocking) if timeout is None else self._acquire_within(blocking, timeout)

    def release(self, _release=_core.RLock.release):
        try:
            _release(self)
        except AssertionError:
            raise RuntimeError("cannot release un-acquired lock") from None

    def locked(self):
        return self._is_zero()


class _Semaphore(_Lock):

    def _make(self, manager, value=1):
        if value < 0:
            raise ValueError("semaphore initial value must be >= 0")
        super()._make(manager, value)

    def _acquire_within(self, blocking, timeout):
        if not blocking:
            raise ValueError("can't specify timeout for non-blocking acquire")
        return self._native.acquire(self, True, timeout)


@_kind("Semaphore", _stdlib.AcquirerProxy)
class _ArenaSemaphore(_Semaphore, _core.Semaphore, _stdlib.AcquirerProxy):
    _native = _core.Semaphore

    def acquire(self, blocking=True, timeout=None, _acquire=_core.Semaphore.acquire):
        return _acquire(self, blocking) if timeout is None else self._acquire_within(blocking, timeout)

    def release(self, _release=_core.Semaphore.release):
        _release(self)


@_kind("BoundedSemaphore", _stdlib.AcquirerProxy)
class _ArenaBoundedSemaphore(_Semaphore, _core.BoundedSemaphore, _stdlib.AcquirerProxy):
    _native = _core.BoundedSemaphore

    def acquire(self, blocking=True, timeout=None, _acquire=_core.BoundedSemaphore.acquire):
        return _acquire(self, blocking) if timeout is None else self._acquire_within(blocking, timeout)

    def release(self, _release=_core.BoundedSemaphore.release):
        try:
            _release(self)
        except ValueError:
            raise ValueError("Semaphore released too many times") from None


@_kind("Condition", _stdlib.ConditionProxy)
class _ArenaCondition(_Lock, _core.Condition, _stdlib.ConditionProxy):
    _native = _core.Condition
    _exposed_ = _stdlib.ConditionProxy._exposed_

    def _make(self, manager, lock=None):
        super()._make(manager, _bare(lock))

    def acquire(self, blocking=True, timeout=None):
        if timeout is None:
            return self._lock.acquire(blocking)
        threading.Lock().acquire(blocking, timeout)  # complains where the arguments make no sense
        return self._lock.acquire(True, None if timeout == -1 else timeout)

    def release(self):
        try:
            self._lock.release()
        except (AssertionError, ValueError):
            raise RuntimeError("cannot release un-acquired lock") from None

    def locked(self):
        return self._lock._is_zero()

    def __enter__(self):
        return self._lock.acquire()

    def wait(self, timeout=None):
        with _owned("wait on"):
            return _core.Condition.wait(self, timeout)

    def notify(self, n=1):
        with _owned("notify on"):
            _core.Condition.notify(self, n)

    def notify_all(self):
        with _owned("notify on"):
            _core.Condition.notify_all(self)


def _bare(lock):
    """A lock without the manners of a proxy, which a condition works with natively, for the same shared lock."""
    if not isinstance(lock, (_ArenaLock, _ArenaRLock)):
        return lock
    bare = lock._native.__new__(lock._native)
    bare.__setstate__(lock._native.__getstate__(lock))
    return bare


class _owned:
    """Has the complaint that the lock is not owned made in threading's words."""

    def __init__(self, what):
        self._what = what

    def __enter__(self):
        pass

    def __exit__(self, kind, error, traceback):
        if kind is AssertionError:
            raise RuntimeError(f"cannot {self._what} un-acquired lock") from None


@_kind("Event", _stdlib.EventProxy)
class _ArenaEvent(Arena, _core.Event, _stdlib.EventProxy):
    _exposed_ = _stdlib.EventProxy._exposed_
    _inside = ()

    def _make(self, manager):
        _core.Event.__init__(self, ctx=manager._ctx)

    def __str__(self):
        return f"<threading.Event at {self._offset:#x}: {'set' if self.is_set() else 'unset'}>"


@_kind("Barrier", _stdlib.BarrierProxy)
class _ArenaBarrier(Arena, _core.Barrier, _stdlib.BarrierProxy):
    _exposed_ = _stdlib.BarrierProxy._exposed_
    _inside = ()

    def _make(self, manager, *args, **kwargs):
        _core.Barrier.__init__(self, *args, **kwargs, ctx=manager._ctx)

    def __str__(self):
        return f"<threading.Barrier at {self._offset:#x}: waiters={self.n_waiting}/{self.parties}>"


# Queues.

class _Absent:
    """A method that the native type has and the proxy has not."""

    def __init__(self, name):
        self._name = name

    def __get__(self, proxy, cls):
        if proxy is None:
            return self
        raise AttributeError(f"{cls.__name__!r} object has no attribute {self._name!r}")


def _check_timeout(block, timeout):
    if block and timeout < 0:
        raise ValueError("'timeout' must be a non-negative number")


class _Queue(Arena):
    _inside = ()
    close = _Absent("close")

    def _make(self, manager, maxsize=0):
        _core.JoinableQueue.__init__(self, maxsize, ctx=manager._ctx)

    def put(self, item, block=True, timeout=None, _put=_core.JoinableQueue.put):
        if timeout is not None and self._maxsize > 0:
            _check_timeout(block, timeout)
        _put(self, item, block, timeout)

    def get(self, block=True, timeout=None, _get=_core.JoinableQueue.get):
        if timeout is not None:
            _check_timeout(block, timeout)
        return _get(self, block, timeout)

    def put_nowait(self, item):
        return self.put(item, False)

    def get_nowait(self):
        return self.get(False)

    def _encode_failed(self, error, obj):
        raise error

    def _raise_closed(self):
        raise ValueError(f"Queue {self!r} is closed")


_QUEUE_METHODS = ("empty", "full", "get", "get_nowait", "join", "put", "put_nowait", "qsize", "task_done")

if sys.version_info >= (3, 13):
    from queue import Empty, Full, ShutDown

    _QUEUE_METHODS += ("shutdown",)
    # How long a blocked put() or get() may go on after a shutdown(), in seconds.
    _NOTICED_WITHIN = 0.1

    class _ClosingQueue(_Queue):  # type: ignore
        """A queue that can be shut down."""

        def _make(self, manager, maxsize=0):
            super()._make(manager, maxsize)
            self._down = _core.Event(ctx=manager._ctx)

        def __getstate__(self):
            return _core.JoinableQueue.__getstate__(self), self._down

        def __setstate__(self, state):
            state, self._down = state
            _core.JoinableQueue.__setstate__(self, state)

        def put(self, item, block=True, timeout=None):
            if self._down.is_set():
                raise ShutDown
            if timeout is not None and self._maxsize > 0:
                _check_timeout(block, timeout)
            self._until_shut_down(lambda *when: _core.JoinableQueue.put(self, item, *when), Full, block, timeout)

        def get(self, block=True, timeout=None):
            if timeout is not None:
                _check_timeout(block, timeout)
            return self._until_shut_down(lambda *when: _core.JoinableQueue.get(self, *when), Empty, block, timeout)

        def _until_shut_down(self, call, failure, block, timeout):
            """What *call* returns, which raises *failure* where the queue has to be waited for."""
            try:
                return call(False)
            except failure:
                if self._down.is_set():
                    raise ShutDown from None
                if not block:
                    raise
            deadline = None if timeout is None else time.monotonic() + timeout
            while True:
                left = _NOTICED_WITHIN if deadline is None else min(_NOTICED_WITHIN, deadline - time.monotonic())
                try:
                    return call(True, max(0.0, left))
                except failure:
                    if self._down.is_set():
                        raise ShutDown from None
                    if deadline is not None and time.monotonic() >= deadline:
                        raise

        def shutdown(self, immediate=False):
            """Has put() raise queue.ShutDown, and get() too, when the queue is empty; immediate: drops what is in it."""
            self._down.set()
            while immediate:
                try:
                    _core.JoinableQueue.get(self, False)
                except Empty:
                    break
                self.task_done()

    _Queue = _ClosingQueue  # type: ignore


@_kind("Queue")
class _ArenaQueue(_Queue, _core.JoinableQueue, _BaseProxy):
    _exposed_ = _QUEUE_METHODS


@_kind("JoinableQueue")
class _ArenaJoinableQueue(_Queue, _core.JoinableQueue, _BaseProxy):
    _exposed_ = _QUEUE_METHODS


SET_METHODS = (
    "__and__", "__class_getitem__", "__contains__", "__iand__", "__ior__", "__isub__", "__iter__", "__ixor__", "__len__",
    "__or__", "__rand__", "__ror__", "__rsub__", "__rxor__", "__sub__", "__xor__", "__ge__", "__gt__", "__le__", "__lt__",
    "add", "clear", "copy", "difference", "difference_update", "discard", "intersection", "intersection_update",
    "isdisjoint", "issubset", "issuperset", "pop", "remove", "symmetric_difference", "symmetric_difference_update", "union",
    "update",
)

if hasattr(_core, "SharedDict"):
    # Containers.

    def _iterate(shared, keys):
        for key in keys:
            if len(shared) != len(keys):
                raise RuntimeError("dictionary changed size during iteration")
            yield key


    @_kind("dict", _stdlib.DictProxy)
    class _ArenaDict(Arena, _core.SharedDict, _stdlib.DictProxy):
        _exposed_ = _stdlib.DictProxy._exposed_
        _inside = ()

        def _make(self, manager, *args, **kwargs):
            _core.SharedDict.__init__(self, *args, **kwargs)

        def _getvalue(self):
            return _core.SharedDict.copy(self)

        def __str__(self):
            return str(self.copy())

        def __iter__(self):
            return _iterate(self, self.keys())


    @_kind("list", _stdlib.ListProxy)
    class _ArenaList(Arena, _core.SharedList, _stdlib.ListProxy):
        _exposed_ = _stdlib.ListProxy._exposed_
        _inside = ("__iadd__",)

        def _make(self, manager, *args, **kwargs):
            _core.SharedList.__init__(self, *args, **kwargs)

        def _getvalue(self):
            return _core.SharedList.copy(self)

        def __str__(self):
            return str(self.copy())

        def __iter__(self):
            index = 0
            while True:
                try:
                    item = self[index]
                except IndexError:
                    return
                yield item
                index += 1

        def __add__(self, other):
            if isinstance(other, _BaseProxy):
                raise TypeError(f'can only concatenate list (not "{type(other).__name__}") to list')
            return _core.SharedList.__add__(self, other)

        __lt__ = object.__lt__
        __le__ = object.__le__
        __gt__ = object.__gt__
        __ge__ = object.__ge__


    class _Cell(Arena):
        """One whose contents are in a shared container of its own."""

        def __getstate__(self):
            return self._cell, self.__dict__.get("_typecode")

        def __setstate__(self, state):
            self._cell, self._typecode = state

        def _place(self):
            return self._cell._offset


    @_kind("Namespace", _stdlib.NamespaceProxy)
    class _ArenaNamespace(_Cell, _stdlib.NamespaceProxy):
        _exposed_ = _stdlib.NamespaceProxy._exposed_
        _inside = ()

        def _make(self, manager, /, **kwds):
            self._cell = _core.SharedDict(kwds)

        def __getattribute__(self, key, _own=object.__getattribute__):
            if key[0] == "_":
                return _own(self, key)
            try:
                return _own(self, "_cell")[key]
            except KeyError:
                raise AttributeError(f"'Namespace' object has no attribute {key!r}") from None

        def __getattr__(self, key):
            kind = type(self).__name__ if key[0] == "_" else "Namespace"
            raise AttributeError(f"{kind!r} object has no attribute {key!r}")

        def __setattr__(self, key, value):
            if key[0] == "_":
                object.__setattr__(self, key, value)
            else:
                self._cell[key] = value

        def __delattr__(self, key):
            if key[0] == "_":
                return object.__delattr__(self, key)
            try:
                del self._cell[key]
            except KeyError:
                raise AttributeError(f"'Namespace' object has no attribute {key!r}") from None

        def _method(self, name):
            if name == "__getattribute__":
                return lambda key: getattr(self, key)
            return getattr(self, name)

        def _getvalue(self):
            return _stdlib.Namespace(**self._cell.copy())

        def __str__(self):
            return str(self._getvalue())


    @_kind("Value", _stdlib.ValueProxy)
    class _ArenaValue(_Cell, _stdlib.ValueProxy):
        _exposed_ = _stdlib.ValueProxy._exposed_
        _inside = ()

        def _make(self, manager, typecode, value, lock=True):
            self._typecode = typecode
            self._cell = _core.SharedList((value,))

        def get(self):
            return self._cell[0]

        def set(self, value):
            self._cell[0] = value

        value = property(get, set)

        def _getvalue(self):
            return _stdlib.Value(self._typecode, self.get())

        def __str__(self):
            return str(self._getvalue())


    @_kind("Array", _stdlib.ArrayProxy)
    class _ArenaArray(_Cell, _stdlib.ArrayProxy):
        _exposed_ = _stdlib.ArrayProxy._exposed_
        _inside = ()

        def _make(self, manager, typecode, sequence, lock=True):
            self._typecode = typecode
            self._cell = _core.SharedList(array.array(typecode, sequence))

        def __len__(self):
            return len(self._cell)

        def __getitem__(self, index):
            try:
                items = self._cell[index]
            except IndexError:
                raise IndexError("array index out of range") from None
            return array.array(self._typecode, items) if isinstance(index, slice) else items

        def __setitem__(self, index, value):
            if isinstance(index, slice):
                if not isinstance(value, array.array):
                    raise TypeError(f'can only assign array (not "{type(value).__name__}") to array slice')
                if value.typecode != self._typecode:
                    raise TypeError("bad argument type for built-in operation")
                self._cell[index] = list(value)
                return
            value, = array.array(self._typecode, (value,))
            try:
                self._cell[index] = value
            except IndexError:
                raise IndexError("array assignment index out of range") from None

        def _getvalue(self):
            return array.array(self._typecode, self._cell.copy())

        def __str__(self):
            return str(self._getvalue())


    def _reading(name):
        operation = getattr(set, name)

        def method(self, *args):
            return operation(self._getvalue(), *map(_plain, args))

        method.__name__ = name
        return method


    def _changing(name):
        operation = getattr(set, name)
        in_place = name.startswith("__")

        def method(self, *args):
            args = [_plain(arg) for arg in args]

            def change(contents):
                items = set(contents)
                result = operation(items, *args)
                if result is not NotImplemented:
                    for item in contents.keys() - items:
                        del contents[item]
                    contents.update(dict.fromkeys(item for item in items if item not in contents))
                return result

            result = self._cell._transact(change)
            return self if in_place and result is not NotImplemented else result

        method.__name__ = name
        return method


    def _plain(arg):
        return arg._getvalue() if isinstance(arg, _ArenaSet) else arg


    class _SetMethods:
        """What a set does by way of a copy of its contents."""

        for _name in SET_METHODS:
            if _name.startswith("__i") and _name not in ("__iter__",) or _name.endswith("_update"):
                locals()[_name] = _changing(_name)
            elif _name != "__class_getitem__":
                locals()[_name] = _reading(_name)
        del _name


    @_kind("set", getattr(_stdlib, "SetProxy", None))
    class _ArenaSet(_Cell, _SetMethods, getattr(_stdlib, "SetProxy", _BaseProxy)):
        _exposed_ = SET_METHODS
        _inside = ()

        def _make(self, manager, iterable=()):
            self._cell = _core.SharedDict(dict.fromkeys(iterable))

        def __contains__(self, item):
            return item in self._cell

        def __len__(self):
            return len(self._cell)

        def __iter__(self):
            return iter(self._cell)

        def add(self, item):
            self._cell[item] = None

        def discard(self, item):
            self._cell.pop(item, None)

        def remove(self, item):
            del self._cell[item]

        def pop(self):
            try:
                return self._cell.popitem()[0]
            except KeyError:
                raise KeyError("pop from an empty set") from None

        def clear(self):
            self._cell.clear()

        def update(self, *iterables):
            self._cell.update(dict.fromkeys(item for iterable in iterables for item in iterable))

        def _getvalue(self):
            return set(self._cell.keys())

        def __str__(self):
            return str(self._getvalue())
