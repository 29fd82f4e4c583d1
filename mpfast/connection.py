"""A mirror of :mod:`multiprocessing.connection` whose pipes go through shared memory.

A pipe works by memory until a program asks for its descriptor (``fileno()``, a selector, the standard library's own
``wait()``); from then on it is a plain socket that speaks the standard library's wire format.  :func:`wait` of this module
needs no descriptors.
"""
from ._mirror import mirror
from ._native import native

mirror(__name__)

if native("Connection") is not None:
    import errno
    import io
    import multiprocessing.connection as _stdlib
    import multiprocessing.reduction as _reduction
    import os

    from . import _core
    from ._install import original

    _SocketConnection = original("multiprocessing.connection", "Connection")
    _core._set_socket_connection(_SocketConnection)
    _CHUNK = 64 * 1024

    # The steps that the methods of the standard library's Connection consist of, to see whether a program replaces one;
    # None where it has done so already.
    _STEPS = {name: step if getattr(step, "__globals__", None) is vars(_stdlib) else None
              for name, step in ((name, getattr(_SocketConnection, name))
                                 for name in ("_send", "_recv", "_send_bytes", "_recv_bytes", "_poll"))}


    class Connection(_core.Connection, _SocketConnection):
        """One end of a pipe, or a connection over the descriptor *handle*."""

        def _recv(self, size, *args):
            step = _SocketConnection._recv
            return _receive(self, size) if step is _STEPS["_recv"] and not args else step(self, size, *args)

        def _send(self, buf, *args):
            try:
                return _SocketConnection._send(self, buf, *args)
            except ConnectionResetError:
                if self.readable:
                    raise
                # The end of a pipe that only sends is a socket nevertheless; this is what a pipe says.
                raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)) from None

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


    _OWN_STEPS = {name: getattr(Connection, name) for name in _STEPS}


    def _has_other_steps():
        for name, step in _OWN_STEPS.items():
            if getattr(Connection, name) is not step or getattr(_SocketConnection, name) is not _STEPS[name]:
                return True
        return False


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
