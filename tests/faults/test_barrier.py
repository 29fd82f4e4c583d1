"""Barrier when a party is killed."""
import random
import threading
import time

from .crew import KILLS, LONG, SEED, Words, ctx

PARTIES = 3


def test_a_killed_party_breaks_the_barrier(no_leak):
    choice = random.Random(SEED)
    barrier = ctx.Barrier(PARTIES)
    for _ in range(KILLS):
        barrier.reset()
        rounds = Words(PARTIES)

        def party(me):
            try:
                while True:
                    barrier.wait()
                    rounds[me] += 1
            except threading.BrokenBarrierError:
                pass

        processes = [ctx.Process(target=party, args=(me,)) for me in range(PARTIES)]
        for process in processes:
            process.start()
        deadline = time.monotonic() + LONG
        while not all(rounds[me] for me in range(PARTIES)):
            assert time.monotonic() < deadline
            time.sleep(0.0002)
        time.sleep(choice.random() * 0.002)
        victim = processes.pop(choice.randrange(PARTIES))
        victim.kill()
        for process in [*processes, victim]:
            process.join(LONG)
        assert [process.exitcode for process in processes] == [0] * len(processes), f"seed {SEED}"
        assert barrier.broken
    barrier.reset()
    assert (barrier.n_waiting, barrier.broken) == (0, False)
    del barrier, party, processes, victim, process


def test_a_party_killed_while_it_waits():
    barrier = ctx.Barrier(2)
    child = ctx.Process(target=barrier.wait)
    child.start()
    deadline = time.monotonic() + LONG
    while barrier.n_waiting == 0:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    child.kill()
    child.join(LONG)
    try:
        barrier.wait(LONG)
    except threading.BrokenBarrierError:
        pass
    assert barrier.broken
