"""Habits of programs that work with the inside of queues and pipes."""
import os
import select
import subprocess
import sys
import textwrap
from queue import Empty

import pytest

import mpfast
from mpfast import connection, queues

METHODS = ("fork", "spawn", "forkserver")

pytestmark = pytest.mark.skipif(not hasattr(queues, "_machine"), reason="no native queues here")

context = mpfast.get_context("fork")


def is_native(queue):
    return not isinstance(queue, queues._queue_machinery.Machinery)


def put_in_child(queue, *items):
    def work():
        for item in items:
            queue.put(item)
    child = context.Process(target=work)
    child.start()
    child.join()
    assert child.exitcode == 0


# ---- the standard library's own users of queues

POOL = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
{install}

def square(x):
    return x * x

def boom(x):
    raise KeyError(x)

if __name__ == "__main__":
    context = {context}
    with context.Pool(2) as pool:
        print(pool.map(square, range(100))[-1])
        print(pool.apply_async(square, (7,)).get(60))
        print(sorted(pool.imap_unordered(square, range(20), 3))[-1])
        try:
            pool.apply(boom, (5,))
        except KeyError as error:
            print("KeyError", error)
    pool.join()
    with context.Pool(2) as pool:
        unfinished = pool.map_async(square, range(100000), 1)
    pool.join()
    with ProcessPoolExecutor(2, mp_context=context) as executor:
        print(list(executor.map(square, range(50)))[-1])
        print(type(executor.submit(boom, 3).exception(60)).__name__)
        print(type(executor.submit(square, lambda: 0).exception(60)) is not None)
    print("end")
"""


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("installed", (False, True))
def test_the_stdlibs_pool_and_executor_work_over_these_queues(python, tmp_path, method, installed):
    program = tmp_path / "program.py"
    program.write_text(POOL.format(
        install="import mpfast; mpfast.install()" if installed else "import mpfast",
        context=f"{'multiprocessing' if installed else 'mpfast'}.get_context({method!r})"))
    done = python("program.py")
    assert done.stdout.split() == ["9801", "49", "361", "KeyError", "5", "2401", "KeyError", "True", "end"], done.stderr
    assert done.returncode == 0
    assert done.stderr == ""


def test_a_worker_loop_of_a_program_over_the_queues_of_a_pool():
    inqueue, outqueue = context.SimpleQueue(), context.SimpleQueue()

    def loop():
        inqueue._writer.close()
        outqueue._reader.close()
        for job, i, func, args, kwds in iter(inqueue.get, None):
            outqueue.put((job, i, (True, func(*args, **kwds))))

    child = context.Process(target=loop)
    child.start()
    inqueue._writer.send((1, 0, max, (3, 9), {}))
    assert outqueue._reader.recv() == (1, 0, (True, 9))
    inqueue.put(None)
    child.join()
    assert child.exitcode == 0


# ---- subclasses

def test_a_subclass_that_overrides_documented_methods_stays_native():
    class Counting(queues.Queue):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, ctx=context, **kwargs)
            self.count = 0

        def put(self, obj, block=True, timeout=None):
            self.count += 1
            super().put(obj, block, timeout)

        def get(self, *args, **kwargs):
            return -super().get(*args, **kwargs)

        def qsize(self):
            return 100 + super().qsize()

    queue = Counting(5)
    assert is_native(queue)
    queue.put(1)
    assert (queue.count, queue.qsize(), queue.get(), queue.empty()) == (1, 101, -1, True)


class Stateful(queues.Queue):
    def __init__(self, name):
        super().__init__(ctx=context)
        self.name = name

    def __getstate__(self):
        return super().__getstate__() + (self.name,)

    def __setstate__(self, state):
        super().__setstate__(state[:-1])
        self.name = state[-1]


class StatefulUnbound(queues.JoinableQueue):
    def __init__(self, name):
        queues.JoinableQueue.__init__(self, ctx=context)
        self.name = name

    def __getstate__(self):
        return (self.name, queues.JoinableQueue.__getstate__(self))

    def __setstate__(self, state):
        self.name = state[0]
        queues.JoinableQueue.__setstate__(self, state[1])


def answer_with_name(queue, answers):
    answers.put((queue.name, queue.get(timeout=60)))


@pytest.mark.parametrize("cls", (Stateful, StatefulUnbound))
@pytest.mark.parametrize("method", METHODS)
def test_state_of_a_subclass_reaches_the_child(cls, method):
    ctx = mpfast.get_context(method)
    queue, answers = cls("q"), ctx.SimpleQueue()
    assert is_native(queue)
    queue.put(4)
    child = ctx.Process(target=answer_with_name, args=(queue, answers))
    child.start()
    assert answers.get() == ("q", 4)
    child.join()


def test_feeder_errors_go_to_the_hook_of_a_subclass():
    class Safe(queues.Queue):
        failed = ()

        def _on_queue_feeder_error(self, error, obj):
            self.failed = (type(error).__name__, obj is unpicklable)

    def unpicklable():
        yield

    unpicklable = unpicklable()
    queue = Safe(2, ctx=context)
    assert is_native(queue)
    queue.put(unpicklable)
    assert queue.failed == ("TypeError", True)
    queue.put(1)
    assert queue.get() == 1


class Feeding(queues.Queue):
    """Replaces the feeder thread by one of its own."""

    def _start_thread(self):
        import threading
        self._buffer.clear()
        self._thread = threading.Thread(target=self._own_feed, daemon=True)
        self._thread.start()

    def _own_feed(self):
        from multiprocessing.reduction import ForkingPickler
        while True:
            with self._notempty:
                while not self._buffer:
                    self._notempty.wait()
                obj = self._buffer.popleft()
            with self._wlock:
                self._writer.send_bytes(ForkingPickler.dumps(("fed", obj)))


def get_and_answer(queue, answers):
    answers.put(queue.get(timeout=60))


@pytest.mark.parametrize("method", METHODS)
def test_a_subclass_with_a_feeder_of_its_own(method):
    ctx = mpfast.get_context(method)
    queue, answers = Feeding(3, ctx=ctx), ctx.SimpleQueue()
    assert isinstance(queue, queues.Queue) and isinstance(queue, Feeding) and issubclass(Feeding, queues.Queue)
    assert not is_native(queue)
    assert queue.empty() and not queue.full() and queue._maxsize == 3
    queue.put(1)
    assert queue.get(timeout=60) == ("fed", 1)
    child = ctx.Process(target=get_and_answer, args=(queue, answers))
    child.start()
    queue.put(2)
    assert answers.get() == ("fed", 2)
    child.join()
    assert queue.get_many.__name__ == "get_many"


def test_a_subclass_that_looks_at_the_buffer():
    class Shown(queues.Queue):
        def waiting(self):
            with self._notempty:
                return len(self._buffer)

    queue = Shown(ctx=context)
    assert not is_native(queue)
    assert queue.waiting() == 0
    queue.put("x")
    assert queue.get(timeout=60) == "x"
    queue.close()
    queue.join_thread()
    assert queue._thread is not None and not queue._thread.is_alive()


def test_a_subclass_of_a_subclass_asks_for_the_inside():
    class Plain(queues.JoinableQueue):
        pass

    class Deep(Plain):
        def get(self, *args):
            with self._rlock:
                return self._recv_item()

        def _recv_item(self):
            from multiprocessing.reduction import ForkingPickler
            item = ForkingPickler.loads(self._recv_bytes())
            self._sem.release()
            return item

    assert is_native(Plain(ctx=context))
    queue = Deep(ctx=context)
    assert not is_native(queue)
    queue.put("a")
    assert queue.get() == "a"
    queue.task_done()
    queue.join()
    with pytest.raises(ValueError, match="too many times"):
        queue.task_done()


def test_unbound_calls_of_a_subclass_with_the_inside():
    class Own(queues.Queue):
        def __init__(self, *, ctx):
            queues.Queue.__init__(self, 2, ctx=ctx)
            self._buffer.clear()

        def put(self, obj, block=True, timeout=None):
            queues.Queue.put(self, obj, block, timeout)

        def get(self, block=True, timeout=None):
            return queues.Queue.get(self, block, timeout)

    queue = Own(ctx=context)
    assert not is_native(queue)
    queue.put(1)
    queue.put(2)
    assert queue.full() and queues.Queue.full(queue) and queues.Queue.qsize(queue) == 2
    assert [queue.get(), queues.Queue.get(queue)] == [1, 2]
    with pytest.raises(Empty):
        queues.Queue.get_nowait(queue)
    assert queue.put_many([5, 6]) == 2 and queue.get_many(1) == [5] and queue.get() == 6
    queues.Queue.close(queue)
    with pytest.raises(ValueError, match="is closed"):
        queue.put(1)


class Locked(queues.SimpleQueue):
    def __getstate__(self):
        return (self._reader, self._writer, self._rlock, self._wlock)

    def __setstate__(self, state):
        (self._reader, self._writer, self._rlock, self._wlock) = state
        self._poll = self._reader.poll


@pytest.mark.parametrize("method", METHODS)
def test_a_simple_queue_with_a_state_of_its_own(method):
    ctx = mpfast.get_context(method)
    queue, answers = Locked(ctx=ctx), Locked(ctx=ctx)
    assert not is_native(queue)
    child = ctx.Process(target=get_and_answer_simple, args=(queue, answers))
    child.start()
    queue.put(3)
    assert answers.get() == 3
    child.join()
    assert answers.empty()


def get_and_answer_simple(queue, answers):
    answers.put(queue.get())


def test_wrapped_ends_of_a_subclass():
    class Wrapper:
        def __init__(self, conn):
            self.conn = conn

        def send(self, obj):
            self.conn.send(obj)

        def recv(self):
            return self.conn.recv()

        def __getattr__(self, name):
            return getattr(self.conn, name)

    class Wrapped(queues.Queue):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self._reader = Wrapper(self._reader)
            self._writer = Wrapper(self._writer)
            self._send = self._writer.send
            self._recv = self._reader.recv

    queue = Wrapped(ctx=context)
    queue._send("a")
    assert queue._recv() == "a"
    queue.put("b")
    assert queue._reader.poll(60) and queue.get() == "b"
    assert connection.wait([queue._reader], 0) == []


# ---- replaced names

FEED_PATCHED = """
import threading
{imports}

def feed(buffer, notempty, send_bytes, writelock, reader_close, writer_close, ignore_epipe, onerror, queue_sem):
    import pickle
    while True:
        with notempty:
            while not buffer:
                notempty.wait()
            item = buffer.popleft()
        if type(item) is object:
            return
        with writelock:
            send_bytes(pickle.dumps(("patched", item)))

{queues}.Queue._feed = staticmethod(feed)
queue = {context}.Queue()
assert isinstance(queue, {queues}.Queue), queue
assert repr(queue).startswith("<multiprocessing.queues.Queue object at"), queue
queue.put(1)
print(queue.get(timeout=60))
"""


@pytest.mark.parametrize("imports, queues_module, context_expression", [
    ("import mpfast, mpfast.queues", "mpfast.queues", "mpfast"),
    ("import mpfast, multiprocessing.queues", "multiprocessing.queues", "mpfast.get_context('fork')"),
    ("import mpfast; mpfast.install(); import multiprocessing.queues", "multiprocessing.queues", "multiprocessing"),
])
def test_a_feed_that_was_replaced_feeds_the_queues_made_from_then_on(code, imports, queues_module, context_expression):
    source = FEED_PATCHED.format(imports=imports, queues=queues_module, context=context_expression)
    assert code(source) == "('patched', 1)\n"


SEND_PATCHED = """
{imports}

seen = []
former = connection.Connection._send_bytes

def send_bytes(self, buf):
    seen.append(bytes(buf))
    return former(self, buf)

connection.Connection._send_bytes = send_bytes
left, right = {pipe}()
left.send_bytes(b"abc")
print(right.recv_bytes(), seen)
connection.Connection._send_bytes = former
left, right = {pipe}()
left.send(1)
print(right.recv(), len(seen))
"""


@pytest.mark.parametrize("imports, pipe", [
    ("import mpfast; from mpfast import connection", "mpfast.Pipe"),
    ("import mpfast; from multiprocessing import connection", "mpfast.Pipe"),
    ("import mpfast; mpfast.install(); import multiprocessing; from multiprocessing import connection",
     "multiprocessing.Pipe"),
])
def test_a_connection_method_that_was_replaced_is_called(code, imports, pipe):
    assert code(SEND_PATCHED.format(imports=imports, pipe=pipe)) == "b'abc' [b'abc']\n1 1\n"


def test_a_method_replaced_on_one_connection_is_called():
    left, right = context.Pipe()
    left.send("before")
    seen = []
    former = left._send_bytes
    left._send_bytes = lambda buf: (seen.append(bytes(buf)), former(buf))
    left.send_bytes(b"after")
    assert (right.recv(), right.recv_bytes(), seen) == ("before", b"after", [b"after"])


# ---- the inside of a queue, looked at from outside

def test_parts_that_programs_look_at():
    queue = context.Queue(3)
    queue.put("a")
    queue.put("b")
    assert queue._sem.get_value() == queue._sem._semlock._get_value() == 1
    assert (queue._maxsize, queue._closed, len(queue._buffer), queue._thread) == (3, False, 0, None)
    assert queue._poll() and queue._poll(0.01)
    assert queue._reader is queue._reader
    with queue._rlock:
        assert queue._reader.recv() == "a"
    with queue._notempty, queue._wlock:
        queue._writer.send("c")
    from multiprocessing.reduction import ForkingPickler
    assert ForkingPickler.loads(queue._recv_bytes()) == "b"
    queue._send_bytes(ForkingPickler.dumps({"d": 1}))
    assert [queue.get(), queue.get()] == ["c", {"d": 1}]
    assert queue._opid == os.getpid()
    queue._after_fork()
    joinable = context.JoinableQueue()
    joinable.put(1)
    assert not joinable._unfinished_tasks._semlock._is_zero() and joinable._unfinished_tasks.get_value() == 1


def test_the_reader_in_wait_select_and_poll():
    queue, other = context.Queue(), context.Queue()
    left, right = context.Pipe()
    reader = queue._reader
    assert connection.wait([reader, other._reader, right], 0) == []
    put_in_child(queue, "x")
    assert connection.wait([reader, other._reader, right], 60) == [reader]
    assert select.select([reader, other._reader], [], [], 60)[0] == [reader]
    poller = select.poll()
    poller.register(reader, select.POLLIN)
    assert poller.poll(60_000) == [(reader.fileno(), select.POLLIN)]
    assert queue.get() == "x"
    assert poller.poll(0) == []
    assert connection.wait([reader, right], 0) == []
    left.send(1)
    assert connection.wait([reader, right], 60) == [right]


def test_the_reader_of_a_queue_in_an_event_loop():
    import asyncio

    async def main():
        queue = context.Queue()
        loop = asyncio.get_running_loop()
        got, done = [], loop.create_future()

        def readable():
            while not queue.empty():
                got.append(queue.get())
            if len(got) == 3:
                done.set_result(None)

        loop.add_reader(queue._reader.fileno(), readable)
        child = context.Process(target=lambda: [queue.put(i) for i in range(3)])
        child.start()
        await asyncio.wait_for(done, 60)
        loop.remove_reader(queue._reader.fileno())
        child.join()
        return got

    assert asyncio.run(main()) == [0, 1, 2]


@pytest.mark.parametrize("make", (context.Queue, context.SimpleQueue))
def test_a_writer_closed_by_hand_means_the_end_of_file(make):
    queue = make()
    queue.put("last")

    def produce():
        queue.put("child's")
        queue._writer.close()

    child = context.Process(target=produce)
    child.start()
    queue._writer.close()
    assert queue.get() == "last"
    assert queue.get() == "child's"
    child.join()
    assert connection.wait([queue._reader], 60) == [queue._reader]
    with pytest.raises(EOFError):
        queue.get()
    with pytest.raises(OSError, match="handle is closed"):
        queue.put(1)


def test_a_reader_closed_by_hand():
    queue = context.SimpleQueue()
    queue._reader.close()
    assert queue._reader.closed
    with pytest.raises(OSError, match="handle is closed"):
        queue.get()
    with pytest.raises(OSError, match="handle is closed"):
        queue._reader.poll()


def test_empty_and_qsize_ten_thousands_of_times():
    queue = context.Queue()
    child = context.Process(target=lambda: [queue.put(i) for i in range(1000)])
    child.start()
    got = []
    while len(got) < 1000:
        for _ in range(50):
            assert queue.empty() or queue.qsize() > 0
        if not queue.empty():
            got.append(queue.get_nowait())
    child.join()
    assert got == list(range(1000)) and queue.qsize() == 0 and queue.empty()


# ---- connections with more than objects

def test_a_socket_sent_through_a_connection():
    import socket
    left, right = context.Pipe()

    def child_side(conn):
        sock = conn.recv()
        sock.sendall(b"from the child")
        sock.close()

    child = context.Process(target=child_side, args=(right,))
    child.start()
    ours, theirs = socket.socketpair()
    left.send(theirs)
    theirs.close()
    assert ours.recv(100) == b"from the child"
    child.join()
    ours.close()


def accept_once(conn):
    listening = conn.recv()
    sock, _ = listening.accept()
    sock.sendall(b"served")
    sock.close()
    listening.close()


@pytest.mark.parametrize("method", METHODS)
def test_a_listening_socket_sent_through_a_connection(method):
    import socket
    ctx = mpfast.get_context(method)
    left, right = ctx.Pipe()
    child = ctx.Process(target=accept_once, args=(right,))
    child.start()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = listening.getsockname()
        left.send(listening)
        with socket.create_connection(address) as client:
            assert client.recv(100) == b"served"
    child.join()


def test_a_descriptor_sent_by_dup_fd_and_send_handle():
    from multiprocessing import reduction
    left, right = context.Pipe()
    read_end, write_end = os.pipe()

    def child_side():
        os.write(right.recv().detach(), b"one")
        fd = reduction.recv_handle(right)
        os.write(fd, b"two")

    child = context.Process(target=child_side)
    child.start()
    left.send(reduction.DupFd(write_end))
    reduction.send_handle(left, write_end, child.pid)
    child.join()
    assert child.exitcode == 0
    os.close(write_end)
    assert os.read(read_end, 100) + os.read(read_end, 100) == b"onetwo"
    os.close(read_end)


def test_a_descriptor_inherited_by_a_program_that_is_executed():
    left, right = context.Pipe()
    program = textwrap.dedent("""
        import sys
        from multiprocessing.connection import Connection
        with Connection(int(sys.argv[1])) as conn:
            conn.send([conn.recv(), "from the program"])
    """)
    fd = right.fileno()
    running = subprocess.Popen([sys.executable, "-c", program, str(fd)], pass_fds=[fd])
    right.close()
    left.send("hello")
    assert left.recv() == ["hello", "from the program"]
    assert running.wait() == 0
    with pytest.raises((EOFError, ConnectionResetError)):
        left.recv()


def test_detaching_the_descriptor_of_a_connection():
    left, right = context.Pipe()
    fd = left._handle
    left._handle = None
    assert left.closed
    again = connection.Connection(fd)
    again.send("x")
    assert right.recv() == "x"


def test_a_reducer_registered_after_the_import():
    from multiprocessing.reduction import ForkingPickler

    class Odd:
        def __reduce__(self):
            raise TypeError("not this way")

    ForkingPickler.register(Odd, lambda odd: (str, ("reduced",)))
    try:
        queue = context.Queue()
        left, right = context.Pipe()
        left.send(Odd())
        queue.put([Odd()])
        assert (right.recv(), queue.get()) == ("reduced", ["reduced"])
    finally:
        ForkingPickler._extra_reducers.pop(Odd)


def test_pickles_of_one_context_read_in_another():
    from multiprocessing.reduction import ForkingPickler
    queue = mpfast.get_context("spawn").Queue()
    queue.put(1)
    again = ForkingPickler.loads(ForkingPickler.dumps(queue))
    assert type(again) is queues.Queue
    assert again.get() == 1
