"""Listener and Client: against the standard library in both directions, and against clients that mean no good."""
import socket
import struct
import subprocess
import sys
import threading

import pytest

from mpfast import AuthenticationError, connection

pytestmark = pytest.mark.skipif(not hasattr(connection, "allow_md5"), reason="no native connections here")

KEY = b"a key"
FAMILIES = ("AF_INET", "AF_UNIX")

STDLIB_CLIENT = """
import sys
from multiprocessing.connection import Client
address = eval(sys.argv[1])
with Client(address, authkey=eval(sys.argv[2])) as conn:
    conn.send({"from": "the client", "data": b"x" * 100_000})
    print(conn.recv())
"""

STDLIB_LISTENER = """
import sys
from multiprocessing.connection import Listener
with Listener(family=sys.argv[1], authkey=eval(sys.argv[2])) as listener:
    print(repr(listener.address), flush=True)
    with listener.accept() as conn:
        conn.send([conn.recv(), "and back"])
"""


@pytest.fixture
def plain():
    """Function (source, arguments) that starts an interpreter with nothing but the standard library; it ends in order."""
    running = []

    def start(source, *arguments):
        process = subprocess.Popen([sys.executable, "-c", source, *map(str, arguments)], stdout=subprocess.PIPE, text=True)
        running.append(process)
        return process

    yield start
    for process in running:
        assert process.wait(60) == 0
        process.stdout.close()


@pytest.fixture
def listener():
    with connection.Listener(("127.0.0.1", 0), backlog=50, authkey=KEY) as listener:
        yield listener


@pytest.fixture
def md5():
    former = connection.allow_md5(True)
    yield
    connection.allow_md5(former)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("key", (None, KEY))
def test_a_client_of_the_standard_library(plain, family, key):
    with connection.Listener(family=family, authkey=key) as listener:
        client = plain(STDLIB_CLIENT, repr(listener.address), repr(key))
        with listener.accept() as conn:
            assert isinstance(conn, connection.Connection)
            assert conn.recv() == {"from": "the client", "data": b"x" * 100_000}
            conn.send("hello")
        assert client.stdout.read() == "hello\n"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("key", (None, KEY))
def test_a_listener_of_the_standard_library(plain, family, key):
    process = plain(STDLIB_LISTENER, family, repr(key))
    with connection.Client(eval(process.stdout.readline()), authkey=key) as conn:
        conn.send(7)
        assert conn.recv() == [7, "and back"]


@pytest.mark.parametrize("family", FAMILIES)
def test_both_sides_here(family):
    with connection.Listener(family=family, authkey=KEY) as listener:
        def serve():
            with listener.accept() as conn:
                conn.send_bytes(conn.recv_bytes()[::-1])

        thread = threading.Thread(target=serve)
        thread.start()
        with connection.Client(listener.address, authkey=KEY) as conn:
            conn.send_bytes(b"abc")
            assert conn.poll(60) and conn.recv_bytes() == b"cba"
            with pytest.raises(EOFError):
                conn.recv()
        thread.join()
    with pytest.raises(OSError, match="listener is closed"):
        listener.accept()


def try_client(listener, key, outcome):
    try:
        outcome.append(connection.Client(listener.address, authkey=key))
    except Exception as error:
        outcome.append(error)


def test_a_wrong_key_is_an_error_on_both_sides(listener):
    outcome = []
    thread = threading.Thread(target=try_client, args=(listener, b"another", outcome))
    thread.start()
    with pytest.raises(AuthenticationError, match="digest received was wrong"):
        listener.accept()
    thread.join()
    assert isinstance(outcome[0], AuthenticationError)
    assert str(outcome[0]) == "digest sent was rejected"


def test_keys_that_are_none(listener):
    for make in (lambda key: connection.Listener(("127.0.0.1", 0), authkey=key),
                 lambda key: connection.Client(listener.address, authkey=key)):
        with pytest.raises(ValueError, match="should not be empty"):
            make(b"")
        with pytest.raises(TypeError, match="should be a byte string"):
            make("text")


def is_closed_by(sock):
    """Waits for the other side to close."""
    sock.settimeout(60)
    try:
        while sock.recv(1000):
            pass
    except ConnectionResetError:
        pass
    return True


def accept_beside(listener, others):
    """The connection that accept() gives while *others* do nothing but hold theirs; they are dropped in the end."""
    outcome = []
    thread = threading.Thread(target=try_client, args=(listener, KEY, outcome))
    thread.start()
    accepted = listener.accept()
    thread.join()
    outcome[0].send("served")
    assert accepted.recv() == "served"
    outcome[0].close()
    accepted.close()


def test_silent_clients_do_not_hold_up_the_others(listener):
    listener.handshake_timeout = 1000
    silent = [socket.create_connection(listener.address) for _ in range(3)]
    silent[1].sendall(b"\0\0")
    accept_beside(listener, silent)
    accept_beside(listener, silent)
    listener.close()
    for sock in silent:
        assert is_closed_by(sock)
        sock.close()


def test_a_silent_client_is_dropped_after_the_deadline(listener):
    listener.handshake_timeout = 0.2
    silent = socket.create_connection(listener.address)
    ended = threading.Event()

    def serve():
        with pytest.raises(AuthenticationError):
            listener.accept()
        ended.set()

    thread = threading.Thread(target=serve)
    thread.start()
    assert is_closed_by(silent)
    assert not ended.is_set()
    listener.handshake_timeout = 1000
    outcome = []
    try_client(listener, b"another", outcome)
    thread.join()
    silent.close()


@pytest.mark.parametrize("garbage, error", [
    (struct.pack("!i", 0x7FFFFFFF), OSError),
    (struct.pack("!iQ", -1, 1 << 62), OSError),
    (b"GET / HTTP/1.0\r\n\r\n", OSError),
    (struct.pack("!i", 3) + b"abc", AuthenticationError),
    (struct.pack("!i", 40) + b"{md4}" + b"x" * 35, AuthenticationError),
    (struct.pack("!i", 40) + b"{sha256}" + b"x" * 32, AuthenticationError),
    (struct.pack("!i", 16) + b"x" * 16, AuthenticationError),
    (b"\0\0", OSError),
    (b"", EOFError),
])
def test_garbage_ends_its_own_connection_only(listener, garbage, error):
    sock = socket.create_connection(listener.address)
    sock.sendall(garbage)
    sock.shutdown(socket.SHUT_WR)
    with pytest.raises(error):
        listener.accept()
    assert is_closed_by(sock)
    sock.close()
    accept_beside(listener, [])


def test_what_a_message_claims_is_not_allocated():
    import resource
    with connection.Listener(("127.0.0.1", 0)) as listener:
        sock = socket.create_connection(listener.address)
        conn = listener.accept()
        sock.sendall(struct.pack("!iQ", -1, 1 << 40) + b"x" * 1000)
        sock.close()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(OSError, match="got end of file during message"):
            conn.recv_bytes()
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000
        conn.close()


OLD_CLIENT = """
import sys, hmac, os
from multiprocessing.connection import SocketClient
conn = SocketClient(eval(sys.argv[1]))
key = eval(sys.argv[2])
try:
    message = conn.recv_bytes(256)[len(b"#CHALLENGE#"):]
    conn.send_bytes(hmac.new(key, message, "md5").digest())
    print(conn.recv_bytes(256))
    challenge = os.urandom(20)
    conn.send_bytes(b"#CHALLENGE#" + challenge)
    print(conn.recv_bytes(256) == hmac.new(key, challenge, "md5").digest())
    conn.send_bytes(b"#WELCOME#")
    print(conn.recv())
except (EOFError, ConnectionError):
    print("dropped")
"""


def test_a_peer_that_knows_md5_only_is_served_when_asked_for(plain, listener, md5):
    client = plain(OLD_CLIENT, repr(listener.address), repr(KEY))
    with listener.accept() as conn:
        conn.send("served")
    assert client.stdout.read().splitlines() == ["b'#WELCOME#'", "True", "served"]


def test_a_peer_that_knows_md5_only_is_refused_else(plain, listener):
    former = connection.allow_md5(False)
    try:
        client = plain(OLD_CLIENT, repr(listener.address), repr(KEY))
        with pytest.raises(AuthenticationError, match="MD5"):
            listener.accept()
        assert client.stdout.read().splitlines() == ["b'#FAILURE#'", "dropped"]
    finally:
        connection.allow_md5(former)


HALF_OLD_CLIENT = OLD_CLIENT.replace('conn.send_bytes(hmac.new(key, message, "md5").digest())',
                                     'conn.send_bytes(b"{sha256}" + hmac.new(key, message, "sha256").digest())')


def test_who_knows_a_better_hash_is_not_let_in_by_md5(plain, listener, md5):
    client = plain(HALF_OLD_CLIENT, repr(listener.address), repr(KEY))
    with pytest.raises(AuthenticationError, match="one half"):
        listener.accept()
    assert client.stdout.read().splitlines() == ["b'#WELCOME#'", "dropped"]


def test_the_default_is_what_the_standard_library_here_can_do():
    former = connection.allow_md5(True)
    connection.allow_md5(former)
    assert former is (sys.version_info < (3, 12))


def test_installed_the_names_of_the_standard_library_are_these(code):
    assert code("""
import mpfast, threading
mpfast.install()
from multiprocessing import connection
from multiprocessing.connection import Listener, Client
assert Listener.__module__ == "multiprocessing.connection"
with Listener(authkey=b"k") as listener:
    thread = threading.Thread(target=lambda: listener.accept().send(1))
    thread.start()
    print(Client(listener.address, authkey=b"k").recv(), isinstance(listener, connection.Listener))
    thread.join()
""") == "1 True\n"


def test_many_clients_at_once_are_all_served(listener):
    count = 20
    outcome = []
    threads = [threading.Thread(target=try_client, args=(listener, KEY, outcome)) for _ in range(count)]
    for thread in threads:
        thread.start()
    accepted = [listener.accept() for _ in range(count)]
    for thread in threads:
        thread.join()
    for i, conn in enumerate(outcome):
        conn.send(i)
    assert sorted(conn.recv() for conn in accepted) == list(range(count))
    for conn in outcome + accepted:
        conn.close()


def test_the_wait_for_a_client_ends_with_a_signal(listener, interrupt):
    silent = socket.create_connection(listener.address)
    interrupt(listener.accept)
    silent.close()
