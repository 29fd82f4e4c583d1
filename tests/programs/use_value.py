"""Value: all simple types, the lock, ctypes types, errors."""
import ctypes
import multiprocessing
import sys


def raise_it(value, times):
    for _ in range(times):
        with value.get_lock():
            value.value += 1


def set_all(values):
    for value in values:
        value.value = 7


def main():
    counter = multiprocessing.Value("i", 0)
    processes = [multiprocessing.Process(target=raise_it, args=(counter, 300)) for _ in range(3)]
    for p in processes:
        p.start()
    for p in processes:
        p.join()
    print(counter.value, counter.get_obj().value, counter)
    values = [multiprocessing.Value(code, 1) for code in "bBhHiIlLqQfd"]
    p = multiprocessing.Process(target=set_all, args=(values,))
    p.start()
    p.join()
    print([v.value for v in values])
    print(multiprocessing.Value("c", b"x").value, multiprocessing.Value("u", "y").value,
          multiprocessing.Value(ctypes.c_bool, 3).value, multiprocessing.Value(ctypes.c_longlong, -1).value)
    bare = multiprocessing.Value("d", 0.5, lock=False)
    print(bare.value, hasattr(bare, "get_lock"), type(bare).__name__)
    own = multiprocessing.RLock()
    print(multiprocessing.Value("i", lock=own).get_lock() is own)
    small = multiprocessing.Value("b", 1)
    for attempt in (lambda: setattr(small, "value", "x"), lambda: multiprocessing.Value("z"),
                    lambda: multiprocessing.Value("i", lock=5), lambda: multiprocessing.Value("i", "x")):
        try:
            attempt()
        except Exception as exc:
            print(type(exc).__name__)
    small.value = 300
    print(small.value)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        multiprocessing.set_start_method(sys.argv[1])
    main()
