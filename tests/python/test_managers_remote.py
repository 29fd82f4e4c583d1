"""Managers with the standard library at the other end, in both directions, and with clients that mean no good."""
import os
import pathlib
import shutil
import socket
import struct
import subprocess
import sys
import threading

import pytest

import mpfast
from conftest import child_environment
from mpfast import _handshake, managers
from mpfast.managers import SyncManager

pytestmark = pytest.mark.skipif(not hasattr(SyncManager, "_bring_up"), reason="no native managers here")

KEY = b"a key"


class Plain:
    """A process with nothing but the standard library, which is told what to do line by line."""

    def __init__(self, source, *arguments):
        self.process = subprocess.Popen([sys.executable, "-c", source, *map(str, arguments)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/",
                                        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"})

    def read(self):
        return self.process.stdout.readline().strip()

    def finish(self):
        out, err = self.process.communicate("\n", timeout=60)
        assert self.process.returncode == 0, err
        return out


USE = """
import sys, queue, threading
from multiprocessing import process
from multiprocessing.managers import SyncManager, RemoteError
address, key = eval(sys.argv[1]), eval(sys.argv[2])
process.current_process().authkey = key
class Mine(SyncManager): pass
for name in ("get_dict", "get_list", "get_namespace", "get_queue", "get_lock", "Counter", "get_value"):
    Mine.register(name)
manager = Mine(address, key)
manager.connect()
"""

ALL_TYPES = USE + """
d = manager.dict(a=1); d["b"] = [2]; print(d.copy(), len(d), sorted(d.keys()), str(d))
l = manager.list([1]); l.append(2); l += [3]; print(l[:], l[1:], len(l), l.pop())
d["inner"] = manager.list([7]); d["inner"].append(8); print(d["inner"][:])
n = manager.Namespace(x=1); n.y = 2; print(n.x, n.y, n)
v = manager.Value("i", 5); v.value += 1; print(v.value)
a = manager.Array("i", [1, 2]); a[0] = 9; print(a[:])
q = manager.Queue(); q.put({"k": 1}); print(q.get(), q.empty())
try:
    q.get(timeout=0.01)
except queue.Empty:
    print("empty")
lock = manager.Lock()
with lock:
    print(lock.acquire(False))
e = manager.Event(); e.set(); print(e.wait(), e.is_set())
b = manager.Barrier(1); print(b.wait(), b.parties)
c = manager.Condition()
with c:
    c.notify()
try:
    d["missing"]
except KeyError as exc:
    print(repr(exc))
try:
    manager.dict(3)
except RemoteError as exc:
    print("RemoteError")
"""

EXPECTED = """{'a': 1, 'b': [2]} 2 ['a', 'b'] {'a': 1, 'b': [2]}
[1, 2, 3] [2, 3] 3 3
[7, 8]
1 2 Namespace(x=1, y=2)
6
array('i', [9, 2])
{'k': 1} True
empty
False
True True
0 1
KeyError('missing')
RemoteError
"""

SERVE = """
import sys
from multiprocessing import process
from multiprocessing.managers import SyncManager
process.current_process().authkey = eval(sys.argv[2])
class Counter:
    def __init__(self): self.count = 0
    def look(self, shared, items): items.append("the server was here"); self.shared = shared; return shared["a"]
    def kept(self): return self.shared
    def add(self, number): self.count += number; return self.count
class Mine(SyncManager): pass
Mine.register("Counter", Counter)
server = Mine(eval(sys.argv[1]), eval(sys.argv[2])).get_server()
print(repr(server.address), flush=True)
import threading
threading.Thread(target=lambda: (sys.stdin.readline(), server.stop_event.set()), daemon=True).start()
server.serve_forever()
"""


class Counter:
    def __init__(self):
        self.count = 0

    def add(self, number):
        self.count += number
        return self.count


@pytest.fixture
def addresses(tmp_path):
    return {"AF_INET": ("127.0.0.1", 0), "AF_UNIX": str(tmp_path / "listener")}


FAMILIES = ("AF_INET", "AF_UNIX")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_client_of_the_standard_library(addresses, family):
    with SyncManager(addresses[family], KEY) as manager:
        assert Plain(ALL_TYPES, repr(manager.address), repr(KEY)).finish() == EXPECTED


@pytest.mark.parametrize("family", FAMILIES)
def test_a_server_of_the_standard_library(addresses, family, code):
    server = Plain(SERVE, repr(addresses[family]), repr(KEY))
    address = server.read()
    ours = ALL_TYPES.replace("from multiprocessing", "from mpfast")
    arguments = f"import sys; sys.argv[1:] = [{address!r}, {repr(KEY)!r}]\n"
    assert code(arguments + ours) == EXPECTED
    assert code(arguments + "import mpfast; mpfast.install()\n" + ALL_TYPES) == EXPECTED
    assert code(arguments + USE.replace("from multiprocessing", "from mpfast") +
                "c = manager.Counter(); print(c.add(3), c.add(4))") == "3 7\n"
    # What is in shared memory here, the server reaches through a server here.
    assert code(arguments + USE.replace("from multiprocessing", "from mpfast") + """
import mpfast
local = mpfast.Manager()
shared, items = local.dict(a="seen"), local.list()
c = manager.Counter()
print(c.look(shared, items), items)
shared["b"] = 2
print(c.kept().copy(), manager.list([items])[0][:])
""") == "seen ['the server was here']\n{'a': 'seen', 'b': 2} ['the server was here']\n"
    server.finish()


@pytest.mark.parametrize("family", FAMILIES)
def test_with_itself(addresses, family, code):
    with SyncManager(addresses[family], KEY) as manager:
        arguments = f"import sys; sys.argv[1:] = [{manager.address!r}.__repr__(), {repr(KEY)!r}]\n"
        assert code(arguments + ALL_TYPES.replace("from multiprocessing", "from mpfast")) == EXPECTED


# A remote client sees what is in shared memory here.

class Mine(SyncManager):
    pass


LOCAL = mpfast.Manager() if hasattr(SyncManager, "_bring_up") else None
if LOCAL is not None:
    SHARED = LOCAL.dict(a=1)
    ITEMS, NAMESPACE, TASKS, LOCK, VALUE = LOCAL.list([1]), LOCAL.Namespace(x=1), LOCAL.Queue(), LOCAL.Lock(), LOCAL.Value("i", 1)
    SHARED["items"] = ITEMS
    SHARED["tasks"] = TASKS
    Mine.register("get_dict", lambda: SHARED, managers.DictProxy)
    Mine.register("get_list", lambda: ITEMS, managers.ListProxy)
    Mine.register("get_namespace", lambda: NAMESPACE, managers.NamespaceProxy)
    Mine.register("get_queue", lambda: TASKS)
    Mine.register("get_lock", lambda: LOCK, managers.AcquirerProxy)
    Mine.register("get_value", lambda: VALUE, managers.ValueProxy)
    Mine.register("Counter", Counter)

SEE = USE.replace('"get_value"', '"get_value2"') + """
from multiprocessing import managers
for name, proxy in [("get_dict", managers.DictProxy), ("get_list", managers.ListProxy), ("get_value", managers.ValueProxy),
                    ("get_namespace", managers.NamespaceProxy), ("get_lock", managers.AcquirerProxy)]:
    Mine.register(name, proxytype=proxy)
d, l, n, q = manager.get_dict(), manager.get_list(), manager.get_namespace(), manager.get_queue()
lock, v = manager.get_lock(), manager.get_value()
print(d["a"], l[:], n.x, q.get(), lock.acquire(False), v.value, sorted(d.keys()))
d["b"] = "remote"; l.append("remote"); n.y = "remote"; q.put("remote"); v.value = 5
d["items"].append("through the dict")
print(d["items"][:], type(d["items"]).__name__, type(d["tasks"]).__name__)
d["items"].append("twice")
d["tasks"].put("through the dict")
print(manager.Counter().add(2), sorted(iter(d)), d._getvalue()["a"])
"""


def test_shared_objects_seen_from_afar():
    TASKS.put("local")
    LOCK.acquire()
    try:
        with Mine(("127.0.0.1", 0), KEY, ctx=mpfast.get_context("fork")) as manager:
            done = Plain(SEE, repr(manager.address), repr(KEY)).finish()
    finally:
        LOCK.release()
    assert done.splitlines() == [
        "1 [1] 1 local False 1 ['a', 'items', 'tasks']",
        "[1, 'remote', 'through the dict'] ListProxy AutoProxy[Queue]",
        "2 ['a', 'b', 'items', 'tasks'] 1",
    ]
    assert SHARED["b"] == "remote" and ITEMS[:] == [1, "remote", "through the dict", "twice"] and NAMESPACE.y == "remote"
    assert TASKS.get() == "remote" and TASKS.get() == "through the dict" and VALUE.value == 5


def test_a_token_leads_to_the_object():
    with SyncManager(("127.0.0.1", 0), KEY) as manager:
        shared = manager.dict(a=1)
        token = shared._token
        assert token.address == manager.address and token.typeid == "dict" and token.id == shared._id
        source = USE + """
from multiprocessing.managers import DictProxy, Token
d = DictProxy(Token("dict", address, sys.argv[3]), "pickle", authkey=key)
d["b"] = 2
print(d.copy())
"""
        assert Plain(source, repr(manager.address), repr(KEY), token.id).finish() == "{'a': 1, 'b': 2}\n"
        assert shared["b"] == 2


USE_POOL = USE + """
from multiprocessing.managers import PoolProxy, Token
ours = PoolProxy(Token("Pool", address, sys.argv[3]), "pickle", manager=manager, authkey=key)
for pool in (ours, manager.Pool(2)):
    result = pool.apply_async(pow, (2, 3))
    print(pool, pool.apply(abs, (-3,)), pool.map(abs, [-1, -2]), result.get(), result.ready(), result.successful())
    print(pool.starmap_async(pow, [(2, 3)]).get(), list(pool.imap(abs, [-1, -2])), sorted(pool.imap_unordered(abs, [-1, -2])))
    iterator = pool.imap(int, ["x", "5"])
    try:
        next(iterator)
    except ValueError as exc:
        print(exc)
    print(next(iterator))
    pool.close()
    pool.join()
    try:
        pool.map(abs, [1])
    except ValueError as exc:
        print(exc)
"""


def test_a_pool_seen_from_afar():
    with SyncManager(("127.0.0.1", 0), KEY) as manager, manager.Pool(2) as pool:
        done = Plain(USE_POOL, repr(manager.address), repr(KEY), pool._token.id).finish()
        assert done == """<multiprocessing.pool.Pool state=RUN pool_size=2> 3 [1, 2] 8 True True
[8] [1, 2] [1, 2]
invalid literal for int() with base 10: 'x'
5
Pool not running
""" * 2
        assert "state=CLOSE" in str(pool)


def test_a_queue_of_its_own_server(code):
    # What most programs with a manager on another host look like.
    serve = """
import mpfast, queue
from mpfast.managers import BaseManager
tasks = queue.Queue()
class QueueManager(BaseManager): pass
QueueManager.register("get_queue", callable=lambda: tasks)
manager = QueueManager(address=("127.0.0.1", 0), authkey=b"a key", ctx=mpfast.get_context("fork"))
manager.start()
print(manager.address, flush=True)
print(manager.get_queue().get(), flush=True)
manager.shutdown()
"""
    server = subprocess.Popen([sys.executable, "-c", serve], stdout=subprocess.PIPE, text=True, env=child_environment())
    address = server.stdout.readline().strip()
    Plain(USE + "manager.get_queue().put('from afar')", address, repr(KEY)).finish()
    assert server.stdout.readline() == "from afar\n"
    assert server.wait(60) == 0
    server.stdout.close()


# Clients that mean no good.

@pytest.fixture
def served():
    """A manager, and a function that checks that it serves others."""
    with SyncManager(("127.0.0.1", 0), KEY) as manager:
        def check():
            other = SyncManager(manager.address, KEY)
            other.connect()
            assert other.list([1, 2])[:] == [1, 2]
        yield manager, check


def resident(pid):
    pages = int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE")


BAD = {
    "nothing": b"",
    "garbage": os.urandom(1000),
    "a huge length": struct.pack("!i", 2**31 - 1) + b"x" * 1000,
    "a negative length": struct.pack("!i", -5) + b"x" * 1000,
    "a longer length": struct.pack("!iQ", -1, 2**62) + b"x" * 1000,
    "half a message": struct.pack("!i", 50) + b"x",
    "a wrong answer": struct.pack("!i", 40) + b"{sha256}" + b"x" * 32,
}


@pytest.mark.parametrize("what", BAD)
def test_bad_clients(served, what):
    manager, check = served
    before = resident(manager._process.pid)
    clients = []
    for _ in range(30):
        client = socket.create_connection(manager.address)
        client.sendall(BAD[what])
        clients.append(client)
    check()
    assert resident(manager._process.pid) - before < 50 * 2**20
    for client in clients:
        client.close()
    check()


def test_silent_clients_have_no_threads(served):
    manager, check = served
    check()
    before = len(os.listdir(f"/proc/{manager._process.pid}/task"))
    clients = [socket.create_connection(manager.address) for _ in range(30)]
    check()
    assert len(os.listdir(f"/proc/{manager._process.pid}/task")) < before + 10
    for client in clients:
        client.close()


def test_a_wrong_key(served):
    manager, check = served
    with pytest.raises(mpfast.AuthenticationError):
        SyncManager(manager.address, b"another key").connect()
    done = subprocess.run([sys.executable, "-c", USE, repr(manager.address), repr(b"another key")], capture_output=True,
                          text=True, timeout=60, cwd="/")
    assert "AuthenticationError: digest sent was rejected" in done.stderr
    check()


def test_a_huge_request_of_one_who_has_the_key(served):
    manager, check = served
    before = resident(manager._process.pid)
    with socket.create_connection(manager.address) as sock:
        conn = managers.connection.Connection(os.dup(sock.fileno()))
        _handshake.Handshake(conn, KEY, False).complete()
        sock.sendall(struct.pack("!iQ", -1, 2**40) + b"x" * 1000)
        check()
        assert resident(manager._process.pid) - before < 50 * 2**20
        conn.close()
    check()


def test_a_request_that_is_none(served):
    manager, check = served
    conn = manager._Client(manager.address, authkey=KEY)
    conn.send("not a request")
    kind, text = conn.recv()
    assert kind == "#TRACEBACK" and "Error" in text
    conn.close()
    check()


def test_the_key_has_to_be_bytes():
    with pytest.raises(TypeError):
        SyncManager(authkey="text").start()


# Another host.

def _in_namespace(name, *command):
    return ["ip", "netns", "exec", name, *command]


@pytest.fixture
def other_host():
    """(name of a network namespace, the address of this host from there)

    Names and addresses are this process's own: the same test may run with another interpreter meanwhile.
    """
    name, here, there = f"mpfast{os.getpid()}", f"mpf{os.getpid() % 10**7}a", f"mpf{os.getpid() % 10**7}b"
    network = f"10.213.{os.getpid() // 64 % 256}."
    address, peer = (f"{network}{os.getpid() % 64 * 4 + host}" for host in (1, 2))
    if shutil.which("ip") is None:
        pytest.skip("the command ip is not installed")
    steps = [["ip", "netns", "add", name], ["ip", "link", "add", here, "type", "veth", "peer", "name", there],
             ["ip", "link", "set", there, "netns", name], ["ip", "addr", "add", f"{address}/30", "dev", here],
             ["ip", "link", "set", here, "up"], _in_namespace(name, "ip", "addr", "add", f"{peer}/30", "dev", there),
             _in_namespace(name, "ip", "link", "set", there, "up")]
    try:
        for step in steps:
            done = subprocess.run(step, capture_output=True, text=True, timeout=20)
            if done.returncode != 0:
                pytest.skip(f"no network namespace to be had: {' '.join(step)}: {done.stderr.strip()}")
        yield name, address
    finally:
        subprocess.run(["ip", "link", "del", here], capture_output=True)
        subprocess.run(["ip", "netns", "del", name], capture_output=True)


@pytest.mark.skipif(sys.platform != "linux", reason="network namespaces are Linux's")
def test_a_client_on_another_host(other_host):
    name, address = other_host
    with SyncManager((address, 0), KEY) as manager:
        done = subprocess.run(_in_namespace(name, sys.executable, "-c", ALL_TYPES, repr(manager.address), repr(KEY)),
                              capture_output=True, text=True, timeout=60, cwd="/",
                              env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"})
    assert (done.stdout, done.stderr) == (EXPECTED, "")


def test_many_clients_at_once(served):
    manager, check = served
    failures = []

    def work():
        try:
            check()
        except Exception as exc:
            failures.append(exc)

    threads = [threading.Thread(target=work) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


