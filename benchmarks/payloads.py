"""What rows send."""
from __future__ import annotations

import pickle

from benchmarks.registry import Unavailable

KIB = 1024
MIB = 1024 * KIB


def small_dict():
    """A dict of strings, numbers and a list whose pickle is about 1 KiB."""
    record = {"id": 123456789, "name": "a name of ordinary length", "score": 0.12345, "valid": True, "parent": None,
              "tags": [f"tag-{i}" for i in range(10)]}
    i = 0
    while len(pickle.dumps(record)) < KIB - 32:
        record[f"field_{i:02d}"] = f"a value of some length, number {i:04d}" if i % 2 else i * 1.5
        i += 1
    return record


def small_dicts(count):
    """That many equal :func:`small_dict` that share no value, as those of a program do not: one pickle of many would
    otherwise hold the values of the first only."""
    pickled = pickle.dumps(small_dict())
    return [pickle.loads(pickled) for _ in range(count)]


def block(size, number=0):
    """`size` bytes; those of different numbers are different objects with different contents."""
    return number.to_bytes(8, "little") * (size // 8)


def array(megabytes, number=0):
    """numpy array of doubles of so many MiB; raises Unavailable without numpy."""
    try:
        import numpy
    except ImportError:
        raise Unavailable("numpy is not installed") from None
    return numpy.full(megabytes * MIB // 8, float(number))
