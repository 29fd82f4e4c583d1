"""What the fork server does beforehand, to no effect, so that each of its children has less to write.

Code that has run some times is adapted to what it works with, from 3.11 on, and what was found in a type is kept for whoever
looks it up there again: both are writes, and the page that a child writes to first is copied for it.  What the server has rehearsed is
written already; and adapted code does not look up, and count a use of, most of what it names.
"""
import copyreg
import os
import pickle
import sys

_TIMES = 12  # more than 3.11 and later ones have code run before they adapt it


class _Reduced:
    """Pickled as the call of *function* with *args*, whose result gets the attributes *state*."""

    def __init__(self, function, args, state=None):
        self._reduced = function, args, state

    def __reduce__(self):
        return self._reduced


def is_possible():
    """Whether making a process object, and dropping it, runs nothing of a program that a preloaded module belongs to."""
    from multiprocessing.context import ForkServerProcess
    return (ForkServerProcess.__new__ is object.__new__ and
            not any(hasattr(ForkServerProcess, name) for name in ("__setstate__", "__del__")))


def rehearse(load, looked_up):
    """Do what a child does until it runs its function, with nothing for a main module, and leave all as it was.

    load: what gives a child its process object, called with a descriptor of what it reads.  looked_up: (object, name of an
    attribute) pairs, what children look up besides.
    """
    for thing, name in looked_up:
        getattr(thing, name, None)
    described = _start_of_child()
    reseed = _after_fork()
    for _ in range(_TIMES):
        reseed()
        _load(load, described)


def _after_fork():
    """The function of Python that runs in each child of a fork once the module random is there."""
    from . import _child
    random = sys.modules.get("random")
    if random is not None and _child.untouched(random.Random, "seed", module=random):
        return random._inst.seed
    return _nothing


def _start_of_child():
    """The pieces of what a child reads whose main module is this file."""
    from multiprocessing import context, process
    key = _Reduced(process.AuthenticationString, (b"",))
    state = {"_identity": (1,), "_config": {"authkey": key, "semprefix": "/mp"}, "_parent_pid": 1, "_parent_name": "",
             "_popen": None, "_closed": False, "_target": None, "_args": (), "_kwargs": {}, "_name": ""}
    started = _Reduced(copyreg._reconstructor, (context.ForkServerProcess, object, None), state)
    first, second = pickle.dumps({"log_to_stderr": False, "init_main_from_path": __file__}), pickle.dumps(started)
    return first, second, len(first).to_bytes(8, sys.byteorder)


def _load(load, described):
    from . import _child
    from .popen_spawn_posix import in_memory
    mains = {name: sys.modules.get(name) for name in ("__main__", "__mp_main__")}
    formers = len(_child._former_mains)
    _child._compiled[__file__] = _child._signature(os.stat(__file__)), _nothing.__code__
    try:
        load(in_memory(*described))
    finally:
        del _child._compiled[__file__], _child._former_mains[formers:]
        for name, main in mains.items():
            if main is not None:
                sys.modules[name] = main
            else:
                sys.modules.pop(name, None)


def _nothing():
    pass
