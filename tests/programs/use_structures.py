"""RawValue, RawArray and sharedctypes: structures, arrays of them, synchronized(), copy()."""
import ctypes
import multiprocessing
import sys
from multiprocessing import sharedctypes


class Point(ctypes.Structure):
    _fields_ = [("x", ctypes.c_double), ("y", ctypes.c_double)]


class Particle(ctypes.Structure):
    _fields_ = [("place", Point), ("mass", ctypes.c_int), ("name", ctypes.c_char * 8)]


def move(points, particle, raw):
    for point in points:
        point.x, point.y = point.y, point.x * 2
    with particle:
        particle.mass += 5
        particle.name = b"muon"
    for i, number in enumerate(raw):
        raw[i] = number + 100


def main():
    lock = multiprocessing.Lock()
    points = multiprocessing.Array(Point, [(1.5, 2.5), (0.25, 8.0)], lock=lock)
    particle = multiprocessing.Value(Particle, Point(1, 2), 10, b"pion")
    raw = multiprocessing.RawArray("l", [1, 2, 3])
    p = multiprocessing.Process(target=move, args=(points, particle, raw))
    p.start()
    p.join()
    print([(point.x, point.y) for point in points])
    print(particle.mass, particle.name, particle.place.x)
    print(list(raw))
    snapshot = sharedctypes.copy(particle.get_obj())
    particle.mass = 0
    print(snapshot.mass, particle.mass)
    wrapped = sharedctypes.synchronized(multiprocessing.RawValue(Point, 3, 4))
    with wrapped:
        wrapped.x += 1
    print(wrapped.x, wrapped.y, type(wrapped.get_lock()).__name__)
    whole = multiprocessing.RawArray(ctypes.c_char, b"raw text")
    print(whole.value, whole.raw, len(whole))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        multiprocessing.set_start_method(sys.argv[1])
    main()
