"""RLock: nested use, ownership by thread and process."""
import multiprocessing
import sys
import threading


def balance(lock, accounts, source, target, times):
    for _ in range(times):
        with lock:
            move(lock, accounts, source, target)


def move(lock, accounts, source, target):
    with lock:
        accounts[source] -= 1
        accounts[target] += 1


def try_it(lock, conn):
    conn.send(lock.acquire(block=False))


def main():
    lock = multiprocessing.RLock()
    print(repr(lock))
    for _ in range(3):
        lock.acquire()
    print(repr(lock))
    others = []
    t = threading.Thread(target=lambda: others.append(lock.acquire(block=False)))
    t.start()
    t.join()
    r, w = multiprocessing.Pipe(False)
    p = multiprocessing.Process(target=try_it, args=(lock, w))
    p.start()
    print("others got it:", others, r.recv())
    p.join()
    for _ in range(3):
        lock.release()
    try:
        lock.release()
    except AssertionError as exc:
        print("AssertionError:", exc)
    accounts = multiprocessing.RawArray("i", [1000, 1000])
    processes = [multiprocessing.Process(target=balance, args=(lock, accounts, i % 2, 1 - i % 2, 300 * (i + 1)))
                 for i in range(3)]
    for p in processes:
        p.start()
    for p in processes:
        p.join()
    print(list(accounts))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        multiprocessing.set_start_method(sys.argv[1])
    main()
