"""What messages must not cost: system calls while the other side is awake."""
import pytest

from mpfast import _native

pytestmark = pytest.mark.skipif(not _native.ENABLED, reason="the native part is not there")

ONE_BY_ONE = """
import mpfast
queue, simple, joinable = mpfast.Queue(), mpfast.SimpleQueue(), mpfast.JoinableQueue(5)
left, right = mpfast.Pipe()

def use():
    for q in queue, simple, joinable:
        q.put("an item")
        assert q.get() == "an item" and q.empty()
    joinable.task_done()
    assert queue.qsize() == 0 and not queue.full()
    left.send(["an", "object"])
    assert right.poll() and right.recv() == ["an", "object"]
    right.send_bytes(b"some bytes")
    assert left.recv_bytes() == b"some bytes"

for _ in range(200):
    use()  # each lane has all the memory now that it needs for this
with marked:
    for _ in range(2000):
        use()
"""

POLLING = """
import mpfast
left, right = mpfast.Pipe()
for _ in range(20):
    left.poll()
with marked:
    for _ in range(5000):
        assert not left.poll()
"""


def test_messages_one_by_one_make_no_system_calls(system_calls):
    assert system_calls(ONE_BY_ONE) == []


def test_polling_in_a_loop_hardly_makes_any(system_calls):
    assert len(system_calls(POLLING)) < 500
