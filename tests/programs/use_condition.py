"""Condition: a bounded buffer between producers and consumers, and wait_for with a time limit."""
import multiprocessing
import sys

SIZE = 4


def produce(condition, buffer, filled, start, number):
    for item in range(start, start + number):
        with condition:
            condition.wait_for(lambda: filled.value < SIZE)
            buffer[filled.value] = item
            filled.value += 1
            condition.notify_all()


def consume(condition, buffer, filled, number, conn):
    got = []
    while len(got) < number:
        with condition:
            while filled.value == 0:
                condition.wait()
            filled.value -= 1
            got.append(buffer[filled.value])
            condition.notify_all()
    conn.send(got)


def main():
    condition = multiprocessing.Condition()
    buffer = multiprocessing.RawArray("i", SIZE)
    filled = multiprocessing.RawValue("i", 0)
    ends = [multiprocessing.Pipe(False) for _ in range(2)]
    processes = [multiprocessing.Process(target=produce, args=(condition, buffer, filled, start, 100))
                 for start in (0, 1000)]
    processes += [multiprocessing.Process(target=consume, args=(condition, buffer, filled, 100, w)) for _, w in ends]
    for p in processes:
        p.start()
    items = sorted(ends[0][0].recv() + ends[1][0].recv())
    for p in processes:
        p.join()
    print(len(items), items == list(range(100)) + list(range(1000, 1100)), filled.value)
    with condition:
        print("in time:", condition.wait(0.01), condition.wait_for(lambda: False, 0.01), condition.wait_for(lambda: 7))
    for call in (condition.notify, condition.notify_all, condition.wait):
        try:
            call()
        except (AssertionError, RuntimeError) as exc:
            print(type(exc).__name__, exc)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        multiprocessing.set_start_method(sys.argv[1])
    main()
