"""ProcessPoolExecutor: submit, map, as_completed, wait, errors, cancelling, a broken pool."""
import concurrent.futures
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

PRIMES = [112272535095293, 112582705942171, 115280095190773, 115797848077099, 1099726899285419]


def is_prime(number):
    if number % 2 == 0:
        return False
    return all(number % divisor for divisor in range(3, min(int(number ** 0.5) + 1, 20_001), 2))


def divide(a, b):
    return a / b


def die():
    os._exit(1)


def main():
    with ProcessPoolExecutor(max_workers=2) as executor:
        print(list(zip(PRIMES, executor.map(is_prime, PRIMES))))
        futures = {executor.submit(pow, 2, n): n for n in range(8)}
        print(sorted((futures[f], f.result()) for f in concurrent.futures.as_completed(futures)))
        done, pending = concurrent.futures.wait(futures)
        print(len(done), len(pending))
        future = executor.submit(divide, 1, 0)
        print(repr(future.exception(timeout=30)), future.done(), future.running(), future.cancelled())
        try:
            future.result()
        except ZeroDivisionError as exc:
            print("ZeroDivisionError:", exc)
        print(list(executor.map(divide, [1, 2, 3], [2, 2, 2], chunksize=2)))
        called = []
        future = executor.submit(divide, 3, 2)
        future.add_done_callback(lambda f: called.append(f.result()))
        print(future.result())
    print(called)
    try:
        executor.submit(divide, 1, 1)
    except RuntimeError as exc:
        print("RuntimeError:", exc)
    with ProcessPoolExecutor(1) as executor:
        try:
            executor.submit(die).result()
        except BrokenProcessPool as exc:
            print(type(exc).__name__)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=print, initargs=("initializer",)) as executor:
        print(executor.submit(len, "spawned").result())


if __name__ == "__main__":
    if len(sys.argv) > 1:
        multiprocessing.set_start_method(sys.argv[1])
    main()
