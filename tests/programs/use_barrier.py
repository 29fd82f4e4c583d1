"""Barrier: phases in step, the action, abort, reset, a time limit."""
import multiprocessing
import sys
import threading


def phases(barrier, table, me, rounds, conn):
    right = 0
    for number in range(1, rounds + 1):
        table[me] = number
        barrier.wait()
        right += all(entry == number for entry in table)
        barrier.wait()
    conn.send(right)


def give_up(barrier):
    barrier.abort()


def late(barrier, conn):
    try:
        barrier.wait(0.05)
    except threading.BrokenBarrierError:
        conn.send("broken")


def main():
    parties = 3
    barrier = multiprocessing.Barrier(parties)
    print(barrier.parties, barrier.n_waiting, barrier.broken)
    table = multiprocessing.RawArray("i", parties)
    ends = [multiprocessing.Pipe(False) for _ in range(parties)]
    processes = [multiprocessing.Process(target=phases, args=(barrier, table, i, 20, w)) for i, (_, w) in
                 enumerate(ends)]
    for p in processes:
        p.start()
    print([r.recv() for r, _ in ends])
    for p in processes:
        p.join()

    barrier = multiprocessing.Barrier(2)
    p = multiprocessing.Process(target=give_up, args=(barrier,))
    p.start()
    try:
        barrier.wait(30)
    except threading.BrokenBarrierError as exc:
        print(type(exc).__name__, barrier.broken)
    p.join()
    barrier.reset()
    print("after reset:", barrier.broken)
    r, w = multiprocessing.Pipe(False)
    p = multiprocessing.Process(target=late, args=(barrier, w))
    p.start()
    print("one of two, in time:", r.recv())
    p.join()
    alone = multiprocessing.Barrier(1, action=lambda: print("action"), timeout=1)
    print(alone.wait())


if __name__ == "__main__":
    if len(sys.argv) > 1:
        multiprocessing.set_start_method(sys.argv[1])
    main()
