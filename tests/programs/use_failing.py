"""A program that ends badly: a traceback in a child, then one of its own, and an exit status."""
import multiprocessing
import sys


def divide():
    return 1 / 0


def main():
    p = multiprocessing.Process(target=divide, name="divider")
    p.start()
    p.join()
    print("child:", p.exitcode, flush=True)
    with multiprocessing.Pool(1) as pool:
        try:
            pool.apply(divide)
        except ZeroDivisionError:
            print("from the pool", flush=True)
    raise KeyError("the end")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        multiprocessing.set_start_method(sys.argv[1])
    main()
