"""Array: indexing, slices, iteration, strings, the buffer, errors."""
import multiprocessing
import sys


def square(array, start, stop):
    for i in range(start, stop):
        array[i] = array[i] ** 2


def fill(text, data):
    text.value = b"hello"
    data[1:4] = [2.5, 3.5, 4.5]


def main():
    array = multiprocessing.Array("i", range(20))
    processes = [multiprocessing.Process(target=square, args=(array, i * 5, i * 5 + 5)) for i in range(4)]
    for p in processes:
        p.start()
    for p in processes:
        p.join()
    print(list(array), len(array), type(array.get_obj()).__name__)
    print(array[3], array[-1], array[2:5], array[::5], array[:])
    text = multiprocessing.Array("c", 10)
    data = multiprocessing.Array("d", 6)
    p = multiprocessing.Process(target=fill, args=(text, data))
    p.start()
    p.join()
    print(text.value, text.raw, list(data))
    data[:] = [float(i) for i in range(6)]
    with data.get_lock():
        print(sum(data), max(data.get_obj()))
    view = memoryview(data.get_obj())
    print(view.nbytes, view.format, view.shape)
    bare = multiprocessing.Array("h", [5, 6], lock=False)
    print(list(bare), hasattr(bare, "get_lock"))
    for attempt in (lambda: array[20], lambda: array.__setitem__(0, "x"), lambda: array.__setitem__(slice(0, 2), [1]),
                    lambda: multiprocessing.Array("i", -1), lambda: multiprocessing.Array("z", 3),
                    lambda: multiprocessing.Array("i", 1.5)):
        try:
            attempt()
        except Exception as exc:
            print(type(exc).__name__)
    print(len(multiprocessing.Array("i", 0)))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        multiprocessing.set_start_method(sys.argv[1])
    main()
