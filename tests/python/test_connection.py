"""What a user sees of Pipe, Connection and wait()."""
import os
import pickle
import select
import selectors
import signal
import socket
import struct
import threading
import time

import pytest

import mpfast
from mpfast import connection

from conftest import sleeps

METHODS = ("fork", "spawn", "forkserver")

pytestmark = pytest.mark.skipif(not hasattr(connection, "allow_md5"), reason="no native connections here")

context = mpfast.get_context("fork")


def start(work, *args):
    child = context.Process(target=work, args=args)
    child.start()
    return child


def end(*children):
    for child in children:
        child.join()
        assert child.exitcode == 0


@pytest.fixture(params=("memory", "socket"))
def pipe(request):
    """Function (duplex=True) that makes a pipe; once by memory, once after its descriptor was asked for."""
    made = []

    def make(duplex=True):
        ends = context.Pipe(duplex)
        if request.param == "socket":
            ends[0].fileno()
        made.extend(ends)
        return ends

    yield make
    for conn in made:
        conn.close()


# ---- messages

@pytest.mark.parametrize("item", [
    None, 0, 1.5, "text\u20ac", b"bytes", [1, (2, {3: {4}})], range(3), "x" * 100_000, list(range(20_000)),
], ids=lambda item: repr(item)[:20])
def test_what_is_sent_is_received_both_ways(pipe, item):
    left, right = pipe()
    left.send(item)
    assert right.recv() == item
    right.send(item)
    assert left.recv() == item


def test_arguments_by_name(pipe):
    left, right = pipe()
    left.send(obj="object")
    assert right.poll(timeout=30)
    assert right.recv() == "object"
    left.send_bytes(buf=b"abcde", offset=1, size=3)
    assert right.recv_bytes(maxlength=10) == b"bcd"
    left.send_bytes(buf=b"ab")
    buffer = bytearray(4)
    assert right.recv_bytes_into(buf=buffer, offset=1) == 2
    assert buffer == b"\0ab\0"
    for wrong in ({}, {"object": 1}, {"obj": 1, "more": 2}):
        with pytest.raises(TypeError, match=r"send\(\)"):
            left.send(**wrong)
    with pytest.raises(TypeError, match=r"send\(\)"):
        left.send(1, 2)
    left.send("last")
    assert right.recv() == "last"


def test_large_messages_both_ways_at_once(pipe):
    left, right = pipe()

    def echo():
        for _ in range(5):
            right.send(right.recv())

    child = start(echo)
    item = {"data": b"x" * 4_000_000}
    for _ in range(5):
        left.send(item)
        assert left.recv() == item
    end(child)


def test_arrays_are_received_writable():
    numpy = pytest.importorskip("numpy")
    left, right = context.Pipe()
    array = numpy.arange(1_000_000)
    threading.Thread(target=left.send, args=(array,)).start()
    got = right.recv()
    got[0] = 5
    assert (got[1:] == array[1:]).all() and array[0] == 0


def test_one_way(pipe):
    reader, writer = pipe(duplex=False)
    assert (reader.readable, reader.writable, writer.readable, writer.writable) == (True, False, False, True)
    writer.send(1)
    assert reader.recv() == 1
    for call in (writer.recv, writer.recv_bytes, writer.poll, lambda: writer.recv_bytes_into(bytearray(3))):
        with pytest.raises(OSError) as raised:
            call()
        assert str(raised.value) == "connection is write-only"
    for call in (lambda: reader.send(1), lambda: reader.send_bytes(b"")):
        with pytest.raises(OSError) as raised:
            call()
        assert str(raised.value) == "connection is read-only"


def test_slices_of_buffers(pipe):
    left, right = pipe()
    data = bytearray(b"0123456789")
    left.send_bytes(data)
    left.send_bytes(data, 3)
    left.send_bytes(memoryview(data), 3, 4)
    left.send_bytes(data, offset=10)
    left.send_bytes(b"")
    assert [right.recv_bytes() for _ in range(5)] == [b"0123456789", b"3456789", b"3456", b"", b""]
    for args, text in (((data, -1), "offset is negative"), ((data, 11), "buffer length < offset"),
                       ((data, 0, -1), "size is negative"), ((data, 3, 8), "buffer length < offset + size")):
        with pytest.raises(ValueError) as raised:
            left.send_bytes(*args)
        assert str(raised.value) == text
    with pytest.raises(TypeError):
        left.send_bytes("text")


def test_receiving_into_a_buffer(pipe):
    left, right = pipe()
    buffer = bytearray(b".........")
    left.send_bytes(b"abc")
    assert right.recv_bytes_into(buffer) == 3
    left.send_bytes(b"de")
    assert right.recv_bytes_into(buffer, 5) == 2
    assert buffer == b"abc..de.."
    left.send_bytes(b"much too long")
    with pytest.raises(mpfast.BufferTooShort) as raised:
        right.recv_bytes_into(buffer)
    assert raised.value.args == (b"much too long",)
    left.send_bytes(b"x")
    with pytest.raises(ValueError, match="negative offset"):
        right.recv_bytes_into(buffer, -1)
    with pytest.raises(ValueError, match="offset too large"):
        right.recv_bytes_into(buffer, 10)
    with pytest.raises((TypeError, BufferError)):
        right.recv_bytes_into(b"read only")
    assert right.recv_bytes() == b"x"


def test_a_message_longer_than_allowed(pipe):
    left, right = pipe(duplex=False)[::-1]
    left.send_bytes(b"12345")
    left.send_bytes(b"123456")
    with pytest.raises(ValueError, match="negative maxlength"):
        right.recv_bytes(-1)
    assert right.recv_bytes(5) == b"12345"
    with pytest.raises(OSError) as raised:
        right.recv_bytes(5)
    assert "bad message length" in str(raised.value)
    assert right.closed


def test_bytes_of_an_object_and_an_object_of_bytes(pipe):
    from multiprocessing.reduction import ForkingPickler
    left, right = pipe()
    left.send({"a": 1})
    assert ForkingPickler.loads(right.recv_bytes()) == {"a": 1}
    left.send_bytes(ForkingPickler.dumps([1, 2]))
    assert right.recv() == [1, 2]


def test_what_cannot_be_pickled_is_not_sent(pipe):
    left, right = pipe()
    with pytest.raises(TypeError, match="cannot pickle"):
        left.send(threading.Lock())
    assert not right.poll()
    left.send(1)
    assert right.recv() == 1


# ---- the end

def test_closing(pipe):
    left, right = pipe()
    assert not left.closed
    left.close()
    left.close()
    assert left.closed
    for call in (left.recv, left.poll, left.fileno, lambda: left.send(1), lambda: left.send_bytes(b"")):
        with pytest.raises(OSError) as raised:
            call()
        assert str(raised.value) == "handle is closed"
    assert right.poll()
    with pytest.raises(EOFError):
        right.recv()
    with pytest.raises(EOFError):
        right.recv_bytes()
    with pytest.raises(BrokenPipeError):
        right.send(1)
    with right as entered:
        assert entered is right
    assert right.closed


def test_what_was_sent_before_the_end_is_received(pipe):
    left, right = pipe()
    left.send(1)
    left.send("x" * 50_000)
    left.close()
    assert right.recv() == 1 and len(right.recv()) == 50_000
    with pytest.raises(EOFError):
        right.recv()


def test_a_killed_writer_is_the_end_of_file(pipe):
    reader, writer = pipe(duplex=False)

    def work():
        writer.send("last words")
        os.kill(os.getpid(), signal.SIGKILL)

    child = start(work)
    writer.close()
    child.join()
    assert reader.recv() == "last words"
    with pytest.raises(EOFError):
        reader.recv()


def test_a_killed_reader_breaks_the_pipe_of_a_writer_that_waits(pipe):
    reader, writer = pipe(duplex=False)
    ready, told = context.Pipe(False)

    def work():
        told.send(1)
        signal.pause()

    child = start(work)
    reader.close()
    ready.recv()
    threading.Timer(0.3, os.kill, (child.pid, signal.SIGKILL)).start()
    with pytest.raises(BrokenPipeError):
        for _ in range(100_000):
            writer.send(b"x" * 10_000)
    child.join()


def test_receiving_ends_when_the_last_holder_of_the_other_end_closes_it(pipe):
    left, right = pipe()

    def hold():
        right.recv()
        right.close()

    child = start(hold)
    right.close()
    left.send("close it")
    with pytest.raises(EOFError):
        left.recv()
    end(child)


# ---- poll

def test_poll(pipe):
    left, right = pipe()
    assert right.poll() is False and right.poll(0) is False and right.poll(-1) is False
    before = time.monotonic()
    assert right.poll(0.2) is False
    assert time.monotonic() - before >= 0.2
    left.send(1)
    assert right.poll() is True and right.poll(5) is True and right.poll(None) is True
    assert right.recv() == 1
    assert right.poll() is False
    threading.Timer(0.2, left.send, (2,)).start()
    assert right.poll(None) is True
    assert right.recv() == 2


def start_and_stay(started):
    started.set()
    signal.pause()


def close_and_stay(connection, closed):
    os.closerange(3, 1024)
    closed.set()
    signal.pause()


def test_polling_finds_the_end_of_a_process_at_once(pipe):
    left, right = pipe()
    started = context.Event()
    child = start(start_and_stay, started)
    left.close()
    started.wait()
    assert right.poll() is False
    child.kill()
    child.join()
    assert right.poll() is True
    with pytest.raises(EOFError):
        right.recv()


def test_polling_finds_the_end_where_all_descriptors_were_closed(pipe):
    left, right = pipe()
    closed = context.Event()
    child = start(close_and_stay, left, closed)
    left.close()
    closed.wait()
    while not right.poll():
        pass
    with pytest.raises(EOFError):
        right.recv()
    child.kill()
    child.join()


def test_a_signal_ends_every_wait(pipe, interrupt):
    left, right = pipe()
    for call in (right.recv, right.recv_bytes, lambda: right.poll(None), lambda: right.poll(1000),
                 lambda: connection.wait([right])):
        interrupt(call)
    interrupt(lambda: [left.send_bytes(b"x" * 60_000) for _ in range(1000)])
    assert right.recv_bytes() == b"x" * 60_000


# ---- many processes and threads

def test_threads_and_processes_share_the_ends(pipe):
    reader, writer = pipe(duplex=False)
    results = context.SimpleQueue()
    count = 500

    def send(who, lock):
        for i in range(count):
            with lock:
                writer.send((who, i, "x" * (i % 50 * 100)))

    lock = context.Lock()
    senders = [start(send, 0, lock), start(send, 1, lock)]
    threads = [threading.Thread(target=send, args=(who, lock)) for who in (2, 3)]
    for thread in threads:
        thread.start()
    got = [reader.recv()[:2] for _ in range(4 * count)]
    for sender in senders + threads:
        sender.join()
    assert sorted(got) == [(who, i) for who in range(4) for i in range(count)]
    for who in range(4):
        assert [i for by, i in got if by == who] == list(range(count))
    del results


def until_closed(call, ended):
    try:
        while True:
            call()
    except OSError as error:  # EOFError, BrokenPipeError: the other end was closed first
        ended.append(error)
    except EOFError as error:
        ended.append(error)


def test_closing_an_end_that_other_threads_use():
    for _ in range(30):
        left, right = context.Pipe()
        ended = []
        calls = (lambda: left.send(1), lambda: left.send(bytes(20_000)), left.poll, lambda: connection.wait([left], 0),
                 right.recv, lambda: right.poll(0.01))
        threads = [threading.Thread(target=until_closed, args=(call, ended)) for call in calls]
        for thread in threads:
            thread.start()
        left.close()
        right.close()
        assert left.closed and right.closed
        for thread in threads:
            thread.join()
        assert len(ended) == len(calls)
        with pytest.raises(OSError, match="handle is closed"):
            left.send(1)


def test_a_child_closes_what_a_thread_of_its_parent_waits_for():
    left, right = context.Pipe()
    waiting = threading.Thread(target=left.recv)
    waiting.start()
    time.sleep(0.05)  # asleep in recv() most of the time: else the child has less to show
    child = start(close_and_look, left, right)
    end(child)
    right.send(None)
    waiting.join()


def close_and_look(left, right):
    left.close()
    assert left.closed and left._handle is None
    with pytest.raises(OSError):
        left.poll()


def test_writers_by_memory_need_no_lock():
    reader, writer = context.Pipe(False)

    def send(who):
        for i in range(500):
            writer.send((who, i, b"x" * (i % 7 * 5000)))

    senders = [start(send, who) for who in range(3)]
    got = [reader.recv()[:2] for _ in range(1500)]
    end(*senders)
    assert sorted(got) == [(who, i) for who in range(3) for i in range(500)]


@pytest.mark.parametrize("method", METHODS)
def test_an_end_reaches_children_and_processes_that_run(method):
    ctx = mpfast.get_context(method)
    left, right = ctx.Pipe()
    child = ctx.Process(target=use_pipe_from_pipe, args=(right,))
    child.start()
    right.close()
    near, far = ctx.Pipe()
    near.send("before it is sent")
    left.send(far)
    far.close()
    assert near.recv() == ["before it is sent"]
    with pytest.raises(EOFError):
        near.recv()
    child.join()
    assert child.exitcode == 0


def use_pipe_from_pipe(conn):
    with conn.recv() as inner:
        inner.send([inner.recv()])


# ---- descriptors

def test_a_descriptor_is_readable_exactly_when_something_is_there():
    left, right = context.Pipe()
    left.send("sent by memory")
    selector = selectors.DefaultSelector()
    selector.register(right, selectors.EVENT_READ)
    assert selector.select(0)
    assert right.recv() == "sent by memory"
    assert not selector.select(0)
    left.send("sent by socket")
    assert selector.select(60)
    assert right.recv() == "sent by socket"
    assert not selector.select(0)
    left.close()
    assert selector.select(60)
    with pytest.raises(EOFError):
        right.recv()
    selector.close()


def test_a_descriptor_of_the_end_whose_other_one_was_asked_first():
    left, right = context.Pipe()
    left.send("by memory")
    left.fileno()
    assert select.select([right], [], [], 0)[0] == [right]
    left.send("by socket")
    assert right.recv() == "by memory"
    assert select.select([right], [], [], 0)[0] == [right]
    assert right.recv() == "by socket"
    assert select.select([right], [], [], 0)[0] == []


def test_nothing_but_what_the_program_writes_is_on_a_descriptor():
    left, right = context.Pipe()
    assert not right.poll(0.01)  # has looked for what comes on the descriptor
    left.send(1)
    os.write(left.fileno(), b"x")
    assert right.recv() == 1
    assert os.read(right.fileno(), 100) == b"x"


def test_a_descriptor_where_another_object_for_the_end_takes_what_was_sent():
    left, right = context.Pipe()
    other = pickle.loads(context.reducer.ForkingPickler.dumps(right))
    left.send("by memory")
    assert select.select([right], [], [], 0)[0] == [right]
    assert other.recv() == "by memory"
    assert select.select([right], [], [], 0)[0] == []
    assert connection.wait([right], 0) == []


def test_a_descriptor_that_is_read_and_written_by_the_program():
    left, right = context.Pipe()
    left.send(1)
    left.fileno()
    descriptor = right.fileno()
    assert select.select([descriptor], [], [], 0)[0] == [descriptor]
    assert right.recv() == 1
    assert select.select([descriptor], [], [], 0)[0] == []
    os.write(left.fileno(), b"there")
    os.write(descriptor, b"back")
    assert (os.read(descriptor, 100), os.read(left.fileno(), 100)) == (b"there", b"back")


def test_a_connection_over_a_socket_of_the_program():
    ours, theirs = socket.socketpair()
    with connection.Connection(ours.detach()) as conn:
        conn.send_bytes(b"abc")
        assert theirs.recv(100) == struct.pack("!i", 3) + b"abc"
        theirs.sendall(struct.pack("!i", 2) + b"de")
        assert conn.poll(60) and conn.recv_bytes() == b"de"
    assert theirs.recv(100) == b""
    theirs.close()


def test_arguments_of_a_connection():
    with pytest.raises(ValueError, match="invalid handle"):
        connection.Connection(-1)
    with pytest.raises(TypeError):
        connection.Connection("x")
    read_end, write_end = os.pipe()
    with pytest.raises(ValueError, match="at least one of `readable` and `writable` must be True"):
        connection.Connection(read_end, readable=False, writable=False)
    os.close(read_end)
    os.close(write_end)


def test_thousands_of_pipes(capfd):
    import resource
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = 2000
    if hard < 2 * count + 200:
        count = (hard - 200) // 2
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * count + 200), hard))
    try:
        pipes = [context.Pipe() for _ in range(count)]
        readers = [right for _, right in pipes]
        assert connection.wait(readers, 0) == []
        for i in (count - 1, 7, 0):
            pipes[i][0].send(i)
        assert connection.wait(readers, 60) == [readers[0], readers[7], readers[count - 1]]
        assert [readers[i].recv() for i in (0, 7, count - 1)] == [0, 7, count - 1]
        for ends in pipes:
            for conn in ends:
                conn.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_descriptors_are_given_back():
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(300):
        left, right = context.Pipe()
        left.send(1)
        right.fileno()
        assert right.recv() == 1
    del left, right
    assert len(os.listdir("/proc/self/fd")) == before


# ---- wait()

def test_wait_over_a_mixed_list(pipe):
    left, right = pipe()
    queue = context.Queue()
    ours, theirs = socket.socketpair()
    read_end, write_end = os.pipe()
    event = context.Event()
    child = start(event.wait)
    reader = queue._reader
    everything = [right, reader, ours, read_end, child.sentinel]
    assert connection.wait(everything, 0) == []
    before = time.monotonic()
    assert connection.wait(everything, 0.2) == []
    assert time.monotonic() - before >= 0.2
    for make_ready, ready, undo in (
            (lambda: left.send(1), right, right.recv),
            (lambda: queue.put(1), reader, queue.get),
            (lambda: theirs.send(b"x"), ours, lambda: ours.recv(1)),
            (lambda: os.write(write_end, b"x"), read_end, lambda: os.read(read_end, 1)),
    ):
        threading.Timer(0.1, make_ready).start()
        assert connection.wait(everything) == [ready]
        undo()
        assert connection.wait(everything, 0) == []
    event.set()
    assert connection.wait(everything, 60) == [child.sentinel]
    left.close()
    theirs.close()
    assert set(connection.wait(everything, 60)) == {right, ours, child.sentinel}
    end(child)
    ours.close()
    os.close(read_end)
    os.close(write_end)


def test_wait_wakes_for_a_child_that_sends_and_one_that_is_killed():
    readers, children = [], []
    for what in ("send", "die"):
        reader, writer = context.Pipe(False)

        def work(what=what, writer=writer):
            if what == "send":
                writer.send("sent")
            else:
                os.kill(os.getpid(), signal.SIGKILL)

        children.append(start(work))
        writer.close()
        readers.append(reader)
    left = list(readers)
    got = []
    while left:
        for reader in connection.wait(left):
            try:
                got.append(reader.recv())
            except EOFError:
                left.remove(reader)
    assert got == ["sent"]
    for child in children:
        child.join()


@pytest.mark.parametrize("sent", (True, False))
def test_waiting_while_the_descriptor_of_the_other_end_is_asked_for(sent):
    left, right = context.Pipe()
    read_end, write_end = os.pipe()
    found = []
    thread = threading.Thread(target=lambda: found.extend(connection.wait([right, read_end])), daemon=True)
    thread.start()
    while not sleeps([], thread):
        pass
    left.fileno()
    if sent:
        left.send("by socket")
    else:
        os.write(write_end, b"x")
    thread.join(60)
    assert found == [right if sent else read_end]
    os.close(read_end)
    os.close(write_end)


@pytest.fixture
def one_cpu():
    """Who is woken does not run before who has woken it sleeps."""
    former = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(former)})
    yield
    os.sched_setaffinity(0, former)


@pytest.mark.parametrize("receive", (lambda conn: conn.recv(), lambda conn: connection.wait([conn]) and conn.recv()),
                         ids=("recv", "wait"))
@pytest.mark.parametrize("divert", (lambda left, right: left.fileno() and right.send(1), lambda left, right: right.fileno(),
                                    lambda left, right: left.fileno() and right.poll()), ids=("send", "fileno", "poll"))
def test_who_sleeps_wakes_for_what_was_sent_before_a_descriptor_was_asked_for(one_cpu, receive, divert):
    left, right = context.Pipe()
    received = []
    thread = threading.Thread(target=lambda: received.append(receive(right)), daemon=True)
    thread.start()
    while not sleeps([], thread):
        pass
    left.send("sent")
    divert(left, right)
    thread.join(60)
    assert received == ["sent"]


def test_wait_with_what_cannot_be_waited_for(pipe):
    left, right = pipe()
    with pytest.raises((TypeError, ValueError)):
        connection.wait([right, object()], 0)
    with pytest.raises(TypeError):
        connection.wait(3)
    assert connection.wait([], 0) == []
    right.close()
    with pytest.raises((OSError, ValueError)):
        connection.wait([right], 0)


def test_the_standard_librarys_wait_takes_these_connections():
    from multiprocessing.connection import wait
    left, right = context.Pipe()
    left.send(1)
    assert wait([right], 60) == [right]
    assert right.recv() == 1
    assert wait([right], 0) == []
    assert select.select([right], [], [], 0)[0] == []
