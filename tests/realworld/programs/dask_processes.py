"""Dask's two ways to processes: its own scheduler, and an executor that is handed to it; prints the results and an error."""
import concurrent.futures
import multiprocessing
import sys

import dask
from dask import bag


def square(number):
    return number * number


def divide(numerator, denominator):
    return numerator / denominator


def last_digit(number):
    return number % 10


def compute(title, **how):
    lazily = dask.delayed(square)
    print(title, dask.delayed(sum)([lazily(n) for n in range(100)]).compute(**how))
    print(title, dask.compute(lazily(3), {"nested": [lazily(4), "text"]}, **how))
    print(title, bag.from_sequence(range(1000), npartitions=7).map(last_digit).frequencies().compute(**how)[:3])
    try:
        dask.delayed(divide)(1, lazily(0)).compute(**how)
    except ZeroDivisionError as error:
        print(title, repr(error))


if __name__ == "__main__":
    method = sys.argv[1]
    with dask.config.set({"multiprocessing.context": method}):
        compute("processes", scheduler="processes", num_workers=2)
    context = multiprocessing.get_context(method)
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as executor:
        compute("executor", scheduler=executor)
        print(type(executor).__name__, executor.submit(pow, 2, 10).result())
