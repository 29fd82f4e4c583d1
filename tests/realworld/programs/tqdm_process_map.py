"""tqdm's process_map: a ProcessPoolExecutor with a shared lock handed to its initializer."""
import sys

from tqdm.contrib.concurrent import process_map


def square(number):
    return number * number


if __name__ == "__main__":
    if len(sys.argv) > 1:
        import multiprocessing
        multiprocessing.set_start_method(sys.argv[1])
    print(sum(process_map(square, range(300), max_workers=2, chunksize=10, disable=True)))
    print(process_map(square, range(20), max_workers=2, chunksize=1, file=open("/dev/null", "w")))
