"""The server of a manager: the standard library's, with clients that nobody can hold up, and objects that it adopts.

On the wire it is the standard library's.  Differences:

- The keys are exchanged by the listener, which leads all handshakes at once and drops who says nothing in time, instead of by
  a thread for each client that connects.
- ``adopt`` takes an object in shared memory that a process of this program has made, and serves it to those who cannot
  reach that memory.
"""
import errno
import multiprocessing.managers as _stdlib
import os
import threading
import time
import types
from multiprocessing.process import AuthenticationString

from . import _managed
from ._install import original
from .connection import AuthenticationError, Connection, Listener

_STDLIB = "multiprocessing.managers"
_StdlibServer = original(_STDLIB, "Server")

_BACKLOG = 128
_RETRY = 0.05  # seconds until the next try where a client cannot be accepted or served


class ConnectionToStranger(Connection):
    """A connection to a process that need not have this program's shared memory."""

    def send(self, obj):
        with _managed.strangers.read():
            super().send(obj)


class _AnsweringListener(Listener):
    """Returns connections whose other side has proved to have the key."""

    def accept(self):
        conn = super().accept()
        if type(conn) is Connection:
            conn.__class__ = ConnectionToStranger
        return conn


def _after_handshake(handle_request):
    """The standard library's *handle_request* for a connection whose handshake is over."""
    nothing = types.SimpleNamespace(deliver_challenge=lambda *args: None, answer_challenge=lambda *args: None)
    return types.FunctionType(handle_request.__code__, {**handle_request.__globals__, "connection": nothing})


_handle_request = _after_handshake(_StdlibServer._handle_request)


class Serving:
    """Mixed into the standard library's server classes."""

    public = [*_StdlibServer.public, "adopt"]

    def __init__(self, registry, address, authkey, serializer):
        if serializer != "pickle" or not authkey or type(self)._handle_request is not Serving._handle_request:
            _StdlibServer.__init__(self, registry, address, authkey, serializer)
            return
        if not isinstance(authkey, bytes):
            raise TypeError(f"Authkey {authkey!r} is type {type(authkey)!s}, not bytes")
        self.registry = registry
        self.authkey = AuthenticationString(authkey)
        self.listener = _AnsweringListener(address=address, backlog=_BACKLOG, authkey=self.authkey)
        self.address = self.listener.address
        self.id_to_obj = {"0": (None, ())}
        self.id_to_refcount = {}
        self.id_to_local_proxy_obj = {}
        self.mutex = threading.RLock()

    def accepter(self):
        """Have a thread serve each client that the listener accepts."""
        if type(self.listener) is not _AnsweringListener:
            return super().accepter()
        while True:
            try:
                conn = self.listener.accept()
            except (OSError, EOFError, AuthenticationError) as exc:
                if self.listener._listener is None:
                    return
                if getattr(exc, "errno", None) in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS):
                    time.sleep(_RETRY)
                continue
            self._serve(conn)

    def _serve(self, conn):
        while True:
            try:
                threading.Thread(target=self.handle_request, args=(conn,), daemon=True).start()
                return
            except RuntimeError:  # there are as many threads as there may be
                time.sleep(_RETRY)

    def _handle_request(self, c):
        if type(self.listener) is _AnsweringListener:
            _handle_request(self, c)
        else:
            super()._handle_request(c)

    def create(self, c, typeid, /, *args, **kwds):
        ident, exposed = super().create(c, typeid, *args, **kwds)
        with self.mutex:
            obj, *rest = self.id_to_obj[ident]
            if isinstance(obj, _managed.Arena):
                self.id_to_obj[ident] = (_managed.Served(obj), *rest)
        return ident, exposed

    def adopt(self, c, typeid, proxy, references):
        """Serve the object *proxy*, for which *references* are counted; returns its id and the names of its methods."""
        _, exposed, method_to_typeid, _ = self.registry[typeid]
        exposed = tuple(exposed or proxy._exposed_) + tuple(method_to_typeid or ())
        ident = proxy._id
        with self.mutex:
            if ident not in self.id_to_obj:
                self.id_to_obj[ident] = (_managed.Served(proxy), set(exposed), method_to_typeid)
            self.id_to_refcount[ident] = self.id_to_refcount.get(ident, 0) + references
        return ident, exposed

    def _value(self, conn, ident, obj):
        return _managed.proxy_of(obj)._getvalue() if type(obj) is _managed.Served else obj

    fallback_mapping = {**_StdlibServer.fallback_mapping, "#GETVALUE": _value}


class Server(Serving, _StdlibServer):
    __doc__ = _StdlibServer.__doc__


if hasattr(_stdlib, "SharedMemoryServer"):
    _StdlibSharedMemoryServer = original(_STDLIB, "SharedMemoryServer")

    class SharedMemoryServer(Serving, _StdlibSharedMemoryServer):
        __doc__ = _StdlibSharedMemoryServer.__doc__
        public = [*_StdlibSharedMemoryServer.public, "adopt"]

        def __init__(self, *args, **kwargs):
            Serving.__init__(self, *args, **kwargs)
            name = f"shm_{os.fsdecode(self.address) if isinstance(self.address, bytes) else self.address}_{os.getpid()}"
            self.shared_memory_context = _stdlib._SharedMemoryTracker(name)
