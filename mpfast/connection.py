"""A mirror of :mod:`multiprocessing.connection` whose pipes go through shared memory.

A pipe works by memory until a program asks for its descriptor (``fileno()``, a selector, the standard library's own
``wait()``); from then on it is a plain socket that speaks the standard library's wire format.  :func:`wait` of this module
needs no descriptors.
"""
from ._mirror import mirror
from ._native import native

mirror(__name__)

if native("Connection") is not None:
    import io
    import multiprocessing.connection as _stdlib
    import multiprocessing.reduction as _reduction
    import os

    from . import _core
    from ._install import original

    _SocketConnection = original("multiprocessing.connection", "Connection")
    _core._set_socket_connection(_SocketConnection)
    _CHUNK = 64 * 1024
    _SOCKET_RECV = _SocketConnection._recv
    if _SOCKET_RECV.__globals__ is not vars(_stdlib):
        _SOCKET_RECV = None  # a program has replaced it already


    class Connection(_core.Connection, _SocketConnection):
        """One end of a pipe, or a connection over the descriptor *handle*."""

        def _recv(self, size, *args):
            step = _SocketConnection._recv
            return _receive(self, size) if step is _SOCKET_RECV and not args else step(self, size, *args)

        def __setattr__(self, name, value):
            super().__setattr__(name, value)
            if name in _STEPS:
                self.fileno()  # from now on the standard library's methods work the socket, and call this

        def __reduce__(self):
            end, descriptor = self._dump()
            return _rebuild, (end, _reduction.DupFd(descriptor), self.readable, self.writable)


    def _receive(conn, size):
        """What Connection._recv returns, without room for what has only been announced."""
        received = io.BytesIO()
        left = size
        while left > 0:
            chunk = os.read(conn._handle, min(left, max(_CHUNK, received.tell())))
            if not chunk:
                if left == size:
                    raise EOFError
                raise OSError("got end of file during message")
            received.write(chunk)
            left -= len(chunk)
        return received


    def _rebuild(end, descriptor, readable, writable):
        descriptor = descriptor.detach()
        if end is None:
            return Connection(descriptor, readable, writable)
        return _core.connect(Connection, end, descriptor)


    # The steps that the methods of the standard library's Connection consist of, to see whether a program has replaced one.
    _STEPS = {}
    for _name in ("_send", "_recv", "_send_bytes", "_recv_bytes", "_poll"):
        _step = getattr(Connection, _name)
        _of = getattr(_step, "__globals__", None)
        _STEPS[_name] = _step if _of is vars(_stdlib) or _of is globals() else None


    def _has_other_steps():
        for name, step in _STEPS.items():
            if getattr(Connection, name) is not step:
                return True
        return _SocketConnection._recv is not _SOCKET_RECV


    def Pipe(duplex=True):
        """Returns two connections, the ends of a new pipe; with *duplex* false the first only receives, the second sends."""
        ends = _core.pipe(Connection, duplex)
        if _has_other_steps():
            ends[0].fileno()
        return ends


    def wait(object_list, timeout=None):
        """Waits until one of the objects (connections, sentinels, sockets, descriptors) is ready, for at most *timeout*
        seconds.  Returns the list of those that are."""
        return _core.wait(object_list, timeout)


    from ._handshake import allow_md5  # noqa: F401
    from ._listener import Client, Listener, SocketClient, SocketListener

    Listener.__module__ = SocketListener.__module__ = Client.__module__ = SocketClient.__module__ = _stdlib.__name__
    Connection.__module__ = "multiprocessing.connection"
