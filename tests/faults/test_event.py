"""Event when those who wait for it or set it are killed."""
from .crew import LONG, ctx


def test_kills_of_waiters(crew):
    event = ctx.Event()

    def feed():
        event.set()
        event.clear()

    team = crew(lambda me: event.wait())
    team.kill_many(feed)
    team.finish(feed)
    assert event.wait(0) is False


def test_kills_of_setters(crew):
    event, stop = ctx.Event(), ctx.Event()

    def work(me):
        event.set()
        event.clear()

    def wait_until_stopped():
        while not stop.is_set():
            assert event.wait(LONG)

    waiter = ctx.Process(target=wait_until_stopped)
    waiter.start()
    team = crew(work)
    team.kill_many()
    stop.set()
    waiter.join(LONG)
    assert waiter.exitcode == 0
    team.finish()
