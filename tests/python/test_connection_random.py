"""Whatever is done to the two ends of a pipe, and in what order: what was sent arrives, and every way to ask says so."""
import pickle
import select
import signal

import pytest

import mpfast
from mpfast import connection

hypothesis = pytest.importorskip("hypothesis")
from hypothesis import given, settings, strategies as st  # noqa: E402

pytestmark = pytest.mark.skipif(not hasattr(connection, "allow_md5"), reason="no native connections here")

MOST_WAITING = 8  # messages; all of them together fit into a socket
OBJECTS = 3  # for one end

context = mpfast.get_context("fork")
things = st.one_of(st.integers(), st.text(max_size=50), st.builds(lambda n: b"x" * n, st.integers(0, 3000)))
messages = st.one_of(st.tuples(st.just("send"), things),
                     st.tuples(st.just("send_bytes"), st.builds(lambda n: b"y" * n, st.integers(0, 3000))))
steps = st.one_of(messages, st.tuples(st.sampled_from(("receive", "receive", "poll", "wait", "select", "fileno", "copy")), st.none()))


def give_up(*_):
    raise TimeoutError("a message that was sent does not arrive")


class Pipe:
    def __init__(self):
        self.ends = [[end] for end in context.Pipe()]
        self.sent = [[], []]  # to each end, not received yet: (method, what)

    def step(self, name, argument, side, which):
        conn = self.ends[side][which % len(self.ends[side])]
        if name in ("send", "send_bytes"):
            if len(self.sent[1 - side]) < MOST_WAITING:
                getattr(conn, name)(argument)
                self.sent[1 - side].append((name, argument))
        elif name == "receive":
            if self.sent[side]:
                method, argument = self.sent[side].pop(0)
                assert (conn.recv() if method == "send" else conn.recv_bytes()) == argument
        elif name == "fileno":
            conn.fileno()
        elif name == "copy":
            if len(self.ends[side]) < OBJECTS:
                self.ends[side].append(pickle.loads(context.reducer.ForkingPickler.dumps(conn)))
        else:
            ask = {"poll": lambda: conn.poll(), "wait": lambda: bool(connection.wait([conn], 0)),
                   "select": lambda: bool(select.select([conn], [], [], 0)[0])}[name]
            assert ask() == bool(self.sent[side])

    def close(self):
        for conn in self.ends[0] + self.ends[1]:
            conn.close()


@settings(deadline=None, max_examples=200, print_blob=True)
@given(st.lists(st.tuples(steps, st.integers(0, 1), st.integers(0, OBJECTS - 1)), max_size=25))
def test_any_order_of_calls(calls):
    pipe = Pipe()
    former = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(60)
    try:
        for (name, argument), side, which in calls:
            pipe.step(name, argument, side, which)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, former)
        pipe.close()
