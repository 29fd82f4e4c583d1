"""numpy over shared arrays, and arrays through a queue and a pool."""
import multiprocessing
import sys

import numpy


def double(shared, shape):
    view = numpy.frombuffer(shared.get_obj()).reshape(shape)
    with shared.get_lock():
        view *= 2


def produce(queue):
    for n in range(5):
        queue.put(numpy.full((100, n + 1), n, dtype="f4"))
    queue.put(numpy.arange(1_000_000))


def norm(array):
    return float(numpy.abs(array).sum())


def main():
    shape = (50, 20)
    shared = multiprocessing.Array("d", shape[0] * shape[1])
    view = numpy.frombuffer(shared.get_obj()).reshape(shape)
    view[:] = numpy.arange(1000).reshape(shape)
    processes = [multiprocessing.Process(target=double, args=(shared, shape)) for _ in range(3)]
    for p in processes:
        p.start()
    for p in processes:
        p.join()
    print(view.sum(), view[3, 4])
    raw = numpy.ctypeslib.as_array(multiprocessing.RawArray("i", range(10)))
    raw[::2] = 0
    print(raw.tolist())
    queue = multiprocessing.Queue()
    p = multiprocessing.Process(target=produce, args=(queue,))
    p.start()
    for _ in range(6):
        array = queue.get()
        print(array.shape, array.dtype, array.sum(), array.flags.writeable)
    p.join()
    with multiprocessing.Pool(2) as pool:
        print(pool.map(norm, [numpy.ones(n) * n for n in (1, 10, 100_000)]))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        multiprocessing.set_start_method(sys.argv[1])
    main()
