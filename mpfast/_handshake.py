"""The exchange of challenges that a listener and its clients open a connection with, when both have a key.

The same on the wire as the standard library's: messages of at most 256 bytes, each behind its length; a challenge, the
answer to it, and a welcome or a refusal; first the listener challenges the client, then the client the listener.  A
challenge names the hash it wants (``{sha256}`` and 40 random bytes); one of exactly 20 bytes is by a peer that knows MD5 only,
and such a peer answers any challenge with the 16 bytes of an MD5 digest.  MD5 is never asked for; where it is allowed it serves
peers that know nothing else, in both halves: one that has named a better hash is not believed to have forgotten it.

Each step is a generator that yields (what is to be sent, whether it then needs a message) and is sent that message, so that
a listener can lead many handshakes at once and wait for none.
"""
import os
import struct
import sys
import time
from multiprocessing.context import AuthenticationError

_CHALLENGE = b"#CHALLENGE#"
_WELCOME = b"#WELCOME#"
_FAILURE = b"#FAILURE#"
_LONGEST = 256
_RANDOM_BYTES = 40
_OLD_CHALLENGE_BYTES = 20
_OLD_DIGEST_BYTES = 16
_HASHES = ("sha256", "sha384", "sha3_256", "sha3_384")

# The standard library of these versions knows nothing but MD5: without it there would be no talking to it.
md5_allowed = sys.version_info < (3, 12)


def allow_md5(allowed):
    """Choose whether a peer may prove by MD5 that it has the key, as the standard library before 3.12 does.

    allowed: bool; the default is True on CPython 3.10 and 3.11, whose own standard library knows nothing else, and False
    from 3.12 on.  Returns the former setting.  Holds for this process.
    """
    global md5_allowed
    former, md5_allowed = md5_allowed, bool(allowed)
    return former


class _Peer:
    """What the other side has shown of itself."""

    def __init__(self):
        self._hash = None

    def uses(self, name):
        """AuthenticationError where it may not use the hash *name*."""
        if name == "md5" and not md5_allowed:
            raise AuthenticationError("the other side knows MD5 only: mpfast.connection.allow_md5(True) would let it in")
        if self._hash is not None and (self._hash == "md5") != (name == "md5"):
            raise AuthenticationError("the other side uses MD5 for one half of the handshake only")
        self._hash = name


def _split_hash(message):
    """The hash that *message* names and what follows; ("md5", message) for one that names none."""
    if message.startswith(b"{"):
        name, brace, rest = message[1:].partition(b"}")
        if brace and name.decode("ascii", "replace") in (*_HASHES, "md5"):
            return name.decode("ascii"), rest
    raise AuthenticationError("no hash, or one that is not allowed, is named in the message of the other side")


def _digest(key, message, name):
    import hmac  # not before it is needed: a large library comes with it
    return hmac.new(key, message, name).digest()


def _challenge(key, peer):
    message = b"{sha256}" + os.urandom(_RANDOM_BYTES)
    answer = yield _CHALLENGE + message, True
    try:
        if len(answer) == _OLD_DIGEST_BYTES:
            name, digest = "md5", answer
        else:
            name, digest = _split_hash(answer)
        peer.uses(name)
        from hmac import compare_digest
        if not compare_digest(_digest(key, message, name), digest):
            raise AuthenticationError("digest received was wrong")
    except AuthenticationError:
        yield _FAILURE, False
        raise
    yield _WELCOME, False


def _answer(key, peer):
    challenge = yield b"", True
    if not challenge.startswith(_CHALLENGE):
        raise AuthenticationError(f"Protocol error, expected challenge: message={challenge!r}")
    message = challenge[len(_CHALLENGE):]
    if len(message) < _OLD_CHALLENGE_BYTES:
        raise AuthenticationError(f"challenge too short: {len(message)} bytes")
    if len(message) == _OLD_CHALLENGE_BYTES:
        peer.uses("md5")
        answer = _digest(key, message, "md5")
    else:
        name, _ = _split_hash(message)
        peer.uses(name)
        answer = b"{%s}" % name.encode() + _digest(key, message, name)
    verdict = yield answer, True
    if verdict != _WELCOME:
        raise AuthenticationError("digest sent was rejected")


class Handshake:
    """One side of a handshake over the connection *conn*.

    key: bytes, not empty; challenge_first: True for the side of the listener; timeout: seconds until it fails, or None.
    """

    def __init__(self, conn, key, challenge_first, timeout=None):
        self.conn = conn
        self.fd = conn.fileno()
        self.deadline = None if timeout is None else time.monotonic() + timeout
        self._received = b""
        peer = _Peer()
        steps = (_challenge(key, peer), _answer(key, peer))
        self._steps = self._one_after_the_other(*(steps if challenge_first else reversed(steps)))
        self.done = self._resume(None)

    @staticmethod
    def _one_after_the_other(first, second):
        yield from first
        yield from second

    def _resume(self, message):
        """Go on until the next message is needed.  Returns whether it is over, with success."""
        try:
            while True:
                out, wants_answer = self._steps.send(message)
                if out:
                    self._write(struct.pack("!i", len(out)) + out)
                if wants_answer:
                    return False
                message = None
        except StopIteration:
            return True

    def _write(self, data):
        while data:
            data = data[os.write(self.fd, data):]

    def _wanted(self):
        """How many bytes are missing from the length or the message it stands before."""
        if len(self._received) < 4:
            return 4 - len(self._received)
        length, = struct.unpack("!i", self._received[:4])
        if not 0 <= length <= _LONGEST:
            raise OSError("bad message length")
        return 4 + length - len(self._received)

    def advance(self):
        """Read what is there, which must be something, or block.  Returns whether the handshake is over, with success.

        AuthenticationError, EOFError and OSError mean that it has failed.
        """
        data = os.read(self.fd, self._wanted())
        if not data:
            if self._received:
                raise OSError("got end of file during message")
            raise EOFError
        self._received += data
        if len(self._received) >= 4 and self._wanted() == 0:
            message, self._received = self._received[4:], b""
            self.done = self._resume(message)
        return self.done

    def complete(self):
        """Lead it to its end, blocking."""
        while not self.done:
            self.advance()

    def overdue(self):
        return self.deadline is not None and time.monotonic() >= self.deadline
