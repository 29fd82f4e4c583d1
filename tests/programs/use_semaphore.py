"""Semaphore and BoundedSemaphore: a limited number at a time, a counter of things that are ready."""
import multiprocessing
import sys


def use(room, inside, most, lock):
    for _ in range(50):
        with room:
            with lock:
                inside.value += 1
                most.value = max(most.value, inside.value)
            with lock:
                inside.value -= 1


def produce(ready, number):
    for _ in range(number):
        ready.release()


def main():
    room = multiprocessing.Semaphore(2)
    print(room, room.get_value())
    inside, most = multiprocessing.RawValue("i", 0), multiprocessing.RawValue("i", 0)
    lock = multiprocessing.Lock()
    users = [multiprocessing.Process(target=use, args=(room, inside, most, lock)) for _ in range(4)]
    for p in users:
        p.start()
    for p in users:
        p.join()
    print("never more than two:", most.value <= 2, "left inside:", inside.value)

    ready = multiprocessing.Semaphore(0)
    p = multiprocessing.Process(target=produce, args=(ready, 20))
    p.start()
    print("taken:", sum(ready.acquire(timeout=30) for _ in range(20)), "more:", ready.acquire(block=False))
    p.join()

    bounded = multiprocessing.BoundedSemaphore(2)
    print(bounded, bounded.acquire(), bounded.acquire(), bounded.acquire(timeout=0.01))
    bounded.release()
    bounded.release()
    try:
        bounded.release()
    except ValueError as exc:
        print("ValueError:", exc)
    print(bounded.get_value())


if __name__ == "__main__":
    if len(sys.argv) > 1:
        multiprocessing.set_start_method(sys.argv[1])
    main()
