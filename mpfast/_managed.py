"""What a local manager makes: proxies that are the shared objects themselves.

A class here is a proxy class of the standard library, for ``isinstance``, ``repr`` and whatever programs do with a proxy, and
either is a native shared object, too, or has one in ``_cell``.  No method asks a server.  A server is needed when somebody
asks who cannot reach the shared memory: then it *adopts* the object, which it reaches like any other process of the
program, and serves it under a token.  Where objects are pickled for such a reader, :data:`strangers` says so.
"""
import contextlib
import errno
import multiprocessing.managers as _stdlib
import multiprocessing.process as _process
import os
import threading
import types
from multiprocessing.reduction import ForkingPickler
from traceback import format_exc

from . import _core
from ._native import native
from .util import Finalize

_STDLIB = "multiprocessing.managers"
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


def managed(typeid, wire=None):
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
        for name, method in vars(cls).items():
            if isinstance(method, types.FunctionType):
                method.__qualname__ = f"{cls.__name__}.{name}"
        return _core.own_methods(cls)

    return decorate


_OF_POOLS = ("Pool", "AsyncResult", "Iterator")  # loaded by programs that have one


def is_made(typeid):
    """Whether a local manager makes a *typeid*, for which another one needs its server."""
    if typeid in _OF_POOLS:
        return typeid == "Pool" and native("Crew") is not None
    _load(typeid)
    return typeid in _KINDS


def pools_were_made():
    """Whether this process has pools, its own or others'."""
    return "Pool" in _KINDS


def _load(typeid):
    if typeid in _OF_POOLS:
        from . import _managed_pool  # noqa: F401
    else:
        from . import _managed_containers, _managed_queues, _managed_sync  # noqa: F401


def make(typeid, manager, args, kwargs):
    """Returns a new object of *typeid*, made by *manager*.

    Where that fails: what pickling the arguments raises, else RemoteError, as from a server.
    """
    proxy = _new(typeid)
    try:
        proxy._make(manager, *args, **kwargs)
    except Exception:
        failure = format_exc()
    else:
        failure = None
    if failure is not None:
        ForkingPickler.dumps((args, kwargs))
        raise _stdlib.RemoteError(failure)
    proxy._manager = manager
    if isinstance(proxy, Waiting):
        proxy._ends = (manager._ended,)
    return proxy


def _new(typeid):
    if typeid not in _KINDS:
        _load(typeid)
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
                if name != "_token" and not isinstance(getattr(type(self), name, None), Absent)]

    def __repr__(self):
        return f"<{type(self).__name__} object, typeid {self._typeid!r} at {id(self):#x}>"

    def __str__(self):
        return f"<shared {self._typeid} at {self._place():#x}>"

    __eq__ = object.__eq__
    __ne__ = object.__ne__
    __hash__ = object.__hash__


class Waiting(Arena):
    """One with methods that wait for others: such a wait ends with EOFError when its manager has shut down.

    ``_native`` is the class that does the work.
    """

    _ends: tuple = ()  # events: what :func:`mpfast._core.call_until` takes

    def __getstate__(self):
        return self._native.__getstate__(self), self._ends

    def __setstate__(self, state):
        state, self._ends = state
        self._native.__setstate__(self, state)


class Absent:
    """A method that the native type has and the proxy has not."""

    def __init__(self, name):
        self._name = name

    def __get__(self, proxy, cls):
        if proxy is None:
            return self
        raise AttributeError(f"{cls.__name__!r} object has no attribute {self._name!r}")


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
        namespace = {name: raise_gone for name in {*cls._exposed_, *cls._inside, "_getvalue"}
                     if name not in ("__getattribute__", "__class_getitem__")}
        namespace["__str__"] = lambda self: repr(self)[:-1] + "; '__str__()' failed>"
        namespace["__module__"] = cls.__module__
        _gone[cls] = type(cls.__name__, (cls,), namespace)
    if "_cell" in proxy.__dict__:
        proxy.__dict__["_cell"] = _Gone()
    proxy.__class__ = _gone[cls]


def raise_gone(self, *args, **kwds):
    raise BrokenPipeError(*_SHUT_DOWN)


class _Gone:
    """What is where the shared contents were."""

    __getitem__ = __setitem__ = __delitem__ = __len__ = __contains__ = __iter__ = __getattr__ = raise_gone
