"""Semaphore and BoundedSemaphore when their users are killed."""
import signal

from .crew import LONG, ctx


def take_for_ever(semaphore, taken):
    semaphore.acquire()
    taken.set()
    signal.pause()


def kill_a_holder(semaphore):
    taken = ctx.Event()
    child = ctx.Process(target=take_for_ever, args=(semaphore, taken))
    child.start()
    assert taken.wait(LONG)
    child.kill()
    child.join(LONG)


def test_permit_of_a_killed_holder_comes_back_to_a_bounded_semaphore():
    semaphore = ctx.BoundedSemaphore(1)
    kill_a_holder(semaphore)
    assert semaphore.acquire(timeout=LONG)
    semaphore.release()
    assert semaphore.get_value() == 1


def test_a_plain_semaphore_is_a_counter_and_keeps_its_value():
    semaphore = ctx.Semaphore(2)
    kill_a_holder(semaphore)
    assert semaphore.get_value() == 1
    assert semaphore.acquire(False)
    assert not semaphore.acquire(timeout=0.2)


def test_kills(crew):
    semaphore = ctx.Semaphore(0)

    def work(me):
        semaphore.acquire()

    def feed():
        if semaphore.get_value() < 10:
            semaphore.release()

    team = crew(work)
    team.kill_many(feed)
    team.finish(feed)


def test_kills_of_bounded(crew):
    semaphore = ctx.BoundedSemaphore(2)

    def work(me):
        with semaphore:
            assert semaphore.get_value() <= 1

    team = crew(work, 4)
    team.kill_many()
    team.finish()
    assert semaphore.acquire(timeout=LONG)
    assert semaphore.acquire(timeout=LONG)
    assert not semaphore.acquire(False)
    semaphore.release()
    semaphore.release()
    assert semaphore.get_value() == 2
