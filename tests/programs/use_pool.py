"""Pool: every way to hand out work, errors, callbacks, initializers, tasks per child."""
import multiprocessing
import os
import sys
import threading

setting = None


def configure(value):
    global setting
    setting = value


def with_setting(number):
    return setting, number


def square(number):
    return number * number


def power(base, exponent):
    return base ** exponent


def fail(number):
    if number == 3:
        raise ValueError(f"cannot do {number}")
    return number


def pid(_):
    return os.getpid()


def never():
    threading.Event().wait()


def main():
    with multiprocessing.Pool(3, initializer=configure, initargs=("set",)) as pool:
        print(pool.apply(power, (2,), {"exponent": 10}))
        print(pool.map(square, range(10)))
        print(pool.map(square, []), pool.map(square, range(100), chunksize=7) == [n * n for n in range(100)])
        print(list(pool.imap(square, range(5))), sorted(pool.imap_unordered(square, range(5), 2)))
        print(pool.starmap(power, [(2, 3), (3, 2)]), pool.starmap_async(power, [(1, 1)]).get(30))
        print(pool.map(with_setting, range(2)))
        called = threading.Event()
        result = pool.apply_async(square, (9,), callback=lambda value: called.set())
        print(result.get(timeout=30), result.ready(), result.successful(), called.wait(30))
        for attempt in (lambda: pool.map(fail, range(5)), lambda: pool.apply(fail, (3,)),
                        lambda: list(pool.imap(fail, range(5)))):
            try:
                attempt()
            except ValueError as exc:
                print("ValueError:", exc, type(exc.__cause__).__name__)
        errors = []
        failed = threading.Event()
        pool.map_async(fail, [3], error_callback=lambda exc: (errors.append(repr(exc)), failed.set()))
        print(failed.wait(30), errors)
        try:
            pool.apply_async(never).get(timeout=0.01)
        except multiprocessing.TimeoutError as exc:
            print(type(exc).__name__)
    try:
        pool.map(square, [1])
    except ValueError as exc:
        print("ValueError:", exc)

    pool = multiprocessing.Pool(1, maxtasksperchild=2)
    pids = [pool.apply(pid, (None,)) for _ in range(6)]
    pool.close()
    pool.join()
    print(len(set(pids)), pids[0] == pids[1], pids[1] != pids[2])
    try:
        multiprocessing.Pool(0)
    except ValueError as exc:
        print("ValueError:", exc)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        multiprocessing.set_start_method(sys.argv[1])
    main()
