"""Queue: workers fed by sentinels, order, limits, errors, large and small items."""
import multiprocessing
import queue
import sys


def worker(tasks, results):
    for number, text in iter(tasks.get, None):
        results.put((number, text.upper(), len(text)))
    results.put(None)


def many(q, number):
    for i in range(number):
        q.put(i)


def main():
    tasks, results = multiprocessing.Queue(), multiprocessing.Queue()
    workers = [multiprocessing.Process(target=worker, args=(tasks, results)) for _ in range(3)]
    for p in workers:
        p.start()
    for i in range(50):
        tasks.put((i, "abc" * i))
    for _ in workers:
        tasks.put(None)
    ended, got = 0, []
    while ended < len(workers):
        item = results.get()
        if item is None:
            ended += 1
        else:
            got.append(item)
    for p in workers:
        p.join()
    print(sorted(got) == [(i, "ABC" * i, 3 * i) for i in range(50)])

    q = multiprocessing.Queue()
    p = multiprocessing.Process(target=many, args=(q, 2000))
    p.start()
    print("in order:", [q.get() for _ in range(2000)] == list(range(2000)))
    p.join()

    limited = multiprocessing.Queue(maxsize=2)
    limited.put(1)
    limited.put(2)
    for attempt in (lambda: limited.put(3, block=False), lambda: limited.put(3, timeout=0.01),
                    lambda: limited.put_nowait(3)):
        try:
            attempt()
        except queue.Full:
            print("Full")
    print(limited.full(), limited.get(), limited.get(timeout=30))
    for attempt in (limited.get_nowait, lambda: limited.get(timeout=0.01), lambda: limited.get(False)):
        try:
            attempt()
        except queue.Empty:
            print("Empty")
    print(limited.empty())
    big = {"data": bytes(3_000_000), "list": list(range(1000)), "set": {1, 2}, "none": None, "nested": [(1, {"a": "b"})]}
    limited.put(big)
    print(limited.get() == big)
    limited.close()
    limited.join_thread()
    for attempt in (lambda: limited.put(1), lambda: limited.get()):
        try:
            attempt()
        except (ValueError, OSError) as exc:
            print(type(exc).__name__)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        multiprocessing.set_start_method(sys.argv[1])
    main()
