"""Condition when those who wait for it or notify are killed."""
import random
import time
import warnings

import mpfast
from .crew import KILLS, LONG, SEED, Words, ctx

WAITERS = 3


def test_a_killed_waiter_takes_no_notification_with_it(no_leak):
    """As many notifications as waiters: whoever of them is killed, the others are woken."""
    choice = random.Random(SEED)
    for _ in range(KILLS):
        condition, waiting = ctx.Condition(), Words(WAITERS)

        def wait(me):
            warnings.simplefilter("ignore", mpfast.OwnerDiedWarning)
            with condition:
                waiting[me] = 1
                assert condition.wait(LONG)

        processes = [ctx.Process(target=wait, args=(me,)) for me in range(WAITERS)]
        for process in processes:
            process.start()
        wait_until(lambda: all(waiting[me] for me in range(WAITERS)))
        victim = processes.pop(choice.randrange(WAITERS))
        moment = choice.randrange(WAITERS + 1)
        for i in range(WAITERS):
            if i == moment:
                victim.kill()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", mpfast.OwnerDiedWarning)
                with condition:
                    condition.notify()
            time.sleep(choice.random() * 0.0003)
        victim.kill()
        for process in [*processes, victim]:
            process.join(LONG)
        assert [process.exitcode for process in processes] == [0] * len(processes), f"seed {SEED}"
        assert repr(condition).endswith(", 0)>")
    del condition, wait, processes, victim, process


def wait_until(predicate):
    deadline = time.monotonic() + LONG
    while not predicate():
        assert time.monotonic() < deadline
        time.sleep(0.0002)


def test_kills(crew):
    condition = ctx.Condition()

    def work(me):
        with condition:
            condition.notify()
            condition.wait()

    def feed():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", mpfast.OwnerDiedWarning)
            with condition:
                condition.notify_all()

    team = crew(work)
    team.kill_many(feed)
    team.finish(feed)
    assert repr(condition) == "<Condition(<RLock(None, 0)>, 0)>"
