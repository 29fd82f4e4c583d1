"""joblib on its multiprocessing backend: results, order, errors, nested data, generators, a reused pool."""
from math import sqrt

from joblib import Parallel, delayed

def work(number, scale=1):
    return {"number": number, "root": round(sqrt(number) * scale, 6), "bytes": bytes(number % 50)}


def divide(a, b):
    return a / b


def main():
    results = Parallel(n_jobs=2, backend="multiprocessing")(delayed(work)(n, scale=3) for n in range(200))
    print([r["root"] for r in results[:10]], sum(len(r["bytes"]) for r in results))
    print(Parallel(n_jobs=2, backend="multiprocessing", batch_size=7)(delayed(sqrt)(n ** 2) for n in range(50)))
    with Parallel(n_jobs=2, backend="multiprocessing") as parallel:
        total = 0.0
        for _ in range(5):
            total = sum(parallel(delayed(divide)(total + n, 2) for n in range(20)))
        print(round(total, 6))
    try:
        Parallel(n_jobs=2, backend="multiprocessing")(delayed(divide)(1, n) for n in (2, 1, 0))
    except ZeroDivisionError as exc:
        print("ZeroDivisionError:", exc)
    print(Parallel(n_jobs=2, backend="multiprocessing", max_nbytes=None)(delayed(len)("x" * 10 ** n) for n in range(7)))


if __name__ == "__main__":
    main()
