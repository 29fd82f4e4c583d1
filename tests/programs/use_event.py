"""Event: a start signal for several processes, with and without a time limit, and set by a signal handler."""
import multiprocessing
import os
import signal
import sys


def runner(number, ready, go, conn):
    ready.release()
    conn.send((number, go.wait(30)))


def wait_for_signal(ready, stop, conn):
    signal.signal(signal.SIGUSR1, lambda *args: stop.set())
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    ready.release()
    print("signalled:", signal.sigwait([signal.SIGUSR1]) == signal.SIGUSR1, flush=True)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
    signal.raise_signal(signal.SIGUSR1)
    conn.send(stop.is_set())


def main():
    go = multiprocessing.Event()
    print(go.is_set(), go.wait(0.01), go.wait(timeout=0))
    ready = multiprocessing.Semaphore(0)
    ends = [multiprocessing.Pipe(False) for _ in range(3)]
    processes = [multiprocessing.Process(target=runner, args=(i, ready, go, w)) for i, (_, w) in enumerate(ends)]
    for p in processes:
        p.start()
    for _ in processes:
        ready.acquire()
    print("anyone off already:", any(r.poll() for r, _ in ends))
    go.set()
    print([r.recv() for r, _ in ends])
    for p in processes:
        p.join()
    print(go.is_set(), go.wait())
    go.clear()
    print(go.is_set())
    stop = multiprocessing.Event()
    sys.stdout.flush()
    r, w = multiprocessing.Pipe(False)
    p = multiprocessing.Process(target=wait_for_signal, args=(ready, stop, w))
    p.start()
    ready.acquire()
    os.kill(p.pid, signal.SIGUSR1)
    print("told by a signal:", r.recv(), stop.is_set())
    p.join()
    print(p.exitcode)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        multiprocessing.set_start_method(sys.argv[1])
    main()
