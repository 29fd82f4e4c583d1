"""Lock: a counter that several processes raise; errors; timeouts; use as a signal."""
import multiprocessing
import sys


def count(lock, counter, times):
    for _ in range(times):
        with lock:
            counter.value += 1


def take_and_leave(lock, taken):
    lock.acquire()
    taken.set()


def main():
    lock = multiprocessing.Lock()
    print(lock.acquire(), lock.acquire(block=False), lock.acquire(timeout=0.01), lock.acquire(True, 0))
    print(repr(lock).split("(")[1])
    lock.release()
    print(repr(lock).split("(")[1])
    try:
        lock.release()
    except ValueError as exc:
        print("ValueError:", exc)
    counter = multiprocessing.RawValue("i", 0)
    processes = [multiprocessing.Process(target=count, args=(lock, counter, 500)) for _ in range(4)]
    for p in processes:
        p.start()
    for p in processes:
        p.join()
    print("counted", counter.value)
    taken = multiprocessing.Event()
    p = multiprocessing.Process(target=take_and_leave, args=(lock, taken))
    p.start()
    p.join()
    print("held by one that has ended:", taken.is_set(), lock.acquire(block=False))
    lock.release()
    print("released by another:", lock.acquire(block=False))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        multiprocessing.set_start_method(sys.argv[1])
    main()
