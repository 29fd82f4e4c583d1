"""Listener and Client: the standard library's, with handshakes that nobody can hold up.

On the wire they are the standard library's.  Differences: a client that says nothing or too little is dropped after
``Listener.handshake_timeout`` seconds, while others are served; an empty key is refused; peers that know no better hash
than MD5 are refused from 3.12 on (:func:`mpfast.connection.allow_md5`).
"""
import collections
import multiprocessing.connection as _stdlib
import select
import socket
import time

from . import _handshake
from ._install import original

_STDLIB = "multiprocessing.connection"
_SocketConnection = original(_STDLIB, "Connection")
_StdlibListener = original(_STDLIB, "Listener")
_StdlibSocketListener = original(_STDLIB, "SocketListener")


def _check_key(authkey):
    if authkey is not None and not isinstance(authkey, bytes):
        raise TypeError("authkey should be a byte string")
    if authkey is not None and not authkey:
        raise ValueError("authkey should not be empty")


def _adopt(conn):
    """*conn* as a connection of this package, where it is a plain one of the standard library."""
    from .connection import Connection
    if type(conn) is not _SocketConnection:
        return conn
    handle, conn._handle = conn._handle, None
    return Connection(handle)


class SocketListener(_StdlibSocketListener):  # type: ignore
    """A socket that is bound to an address and listens."""

    def accept(self):
        return _adopt(super().accept())


class Listener(_StdlibListener):  # type: ignore
    """Returns a listener object.

    A wrapper for a bound socket which is listening for connections.  authkey: bytes, not empty (ValueError); clients have to
    prove that they have it, within ``handshake_timeout`` seconds.  TypeError for a key that is not bytes.
    """

    handshake_timeout = 5.0

    def __init__(self, address=None, family=None, backlog=1, authkey=None):
        _check_key(authkey)
        self._pending = collections.deque()  # handshakes that no accept() leads now
        super().__init__(address, family, backlog, authkey)
        if type(self._listener) is _StdlibSocketListener:
            self._listener.__class__ = SocketListener

    def accept(self):
        """Returns the connection of the next client that has proved to have the key.

        Raises what the standard library raises for one that has not: AuthenticationError, EOFError, OSError.
        """
        if self._listener is None:
            raise OSError("listener is closed")
        if not self._authkey:
            return self._listener.accept()
        sock = getattr(self._listener, "_socket", None)
        if sock is None:
            return self._accept_one()
        led = _Led(self, sock)
        try:
            return led.next()
        finally:
            self._pending.extend(led.handshakes)
            if self._listener is None:
                self._drop_pending()

    def _accept_one(self):
        conn = self._listener.accept()
        try:
            _handshake.Handshake(conn, self._authkey, True).complete()
        except BaseException:
            conn.close()
            raise
        return conn

    def _drop_pending(self):
        while self._pending:
            self._pending.popleft().conn.close()

    def close(self):
        """Close the bound socket, and the connections of clients that were not accepted yet."""
        super().close()
        self._drop_pending()


class _Led:
    """The handshakes that one call of accept() leads."""

    def __init__(self, listener, sock):
        self._listener = listener
        self._socket = sock
        self.handshakes = []
        while listener._pending:
            try:
                self.handshakes.append(listener._pending.popleft())
            except IndexError:
                break  # another thread's accept() has it

    def next(self):
        while True:
            self._drop_overdue()
            if not self.handshakes or self._socket in self._ready():
                self._start()
            for handshake in list(self.handshakes):
                if self._has_input(handshake) and self._advance(handshake):
                    return handshake.conn

    def _start(self):
        conn = self._listener._listener.accept()
        try:
            self.handshakes.append(_handshake.Handshake(conn, self._listener._authkey, True,
                                                        self._listener.handshake_timeout))
        except BaseException:
            conn.close()
            raise

    def _ready(self):
        """Wait for a client, a message or a deadline.  Returns whose input is there."""
        targets = {self._socket.fileno(): self._socket}
        targets.update((handshake.fd, handshake) for handshake in self.handshakes)
        poller = select.poll()
        for fd in targets:
            poller.register(fd, select.POLLIN)
        left = min(handshake.deadline for handshake in self.handshakes) - time.monotonic()
        return [targets[fd] for fd, _ in poller.poll(max(0.0, left) * 1000)]

    @staticmethod
    def _has_input(handshake):
        poller = select.poll()
        poller.register(handshake.fd, select.POLLIN)
        return bool(poller.poll(0))

    def _advance(self, handshake):
        try:
            done = handshake.advance()
        except BaseException:
            self.handshakes.remove(handshake)
            handshake.conn.close()
            raise
        if done:
            self.handshakes.remove(handshake)
        return done

    def _drop_overdue(self):
        for handshake in [h for h in self.handshakes if h.overdue()]:
            self.handshakes.remove(handshake)
            handshake.conn.close()


def SocketClient(address):
    """Returns a connection to the socket that listens at *address*."""
    with socket.socket(getattr(socket, _stdlib.address_type(address))) as sock:
        sock.setblocking(True)
        sock.connect(address)
        return _adopt(_SocketConnection(sock.detach()))


def Client(address, family=None, authkey=None):
    """Returns a connection to the listener at *address*.

    authkey: bytes, not empty (ValueError), which both sides prove to have: AuthenticationError where one does not.
    """
    _check_key(authkey)
    family = family or _stdlib.address_type(address)
    _stdlib._validate_family(family)
    conn = SocketClient(address)
    if authkey is not None:
        try:
            _handshake.Handshake(conn, authkey, False).complete()
        except BaseException:
            conn.close()
            raise
    return conn
