"""Habits of real programs: names that they replace at run time are looked up when they are called."""
import pytest
from conftest import METHODS

PROGRAM = """
import multiprocessing
import os, sys
from multiprocessing import (context, connection, pool, process, queues, reduction, spawn, synchronize)

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

def child(*words):
    say("child", *words)

def run(target, *args):
    worker = multiprocessing.get_context(sys.argv[1]).Process(target=target, args=args)
    worker.start()
    worker.join()
    say("ended", worker.exitcode)
"""


@pytest.mark.parametrize("method", METHODS)
def test_bootstrap(same, method):
    assert same(PROGRAM + """
stdlib_bootstrap = process.BaseProcess._bootstrap
def bootstrap(self, *args, **kwargs):
    say("replaced", self.name)
    return stdlib_bootstrap(self, *args, **kwargs)
process.BaseProcess._bootstrap = bootstrap
if __name__ == "__main__":
    run(child)
""", method).stdout.splitlines()[1:] == ["child", "ended 0"]


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_preparation_data(same, method):
    assert same(PROGRAM + """
stdlib_data = spawn.get_preparation_data
def data(name):
    return {**stdlib_data(name), "sys_argv": ["from", name]}
def show_argv():
    say(*sys.argv)
if __name__ == "__main__":
    spawn.get_preparation_data = data
    run(show_argv)
""", method).stdout.splitlines()[0].startswith("from ")


def test_command_line(same):
    assert same(PROGRAM + """
stdlib_line = spawn.get_command_line
def line(**kwargs):
    command = stdlib_line(**kwargs)
    return [command[0], "-X", "habit=kept", *command[1:]]
def show_options():
    say(sys._xoptions.get("habit"))
if __name__ == "__main__":
    spawn.get_command_line = line
    run(show_options)
""", "spawn").stdout == "kept\nended 0\n"


@pytest.mark.parametrize("method", METHODS)
def test_pool_worker(same, method):
    assert same(PROGRAM + """
stdlib_worker = pool.worker
def worker(*args, **kwargs):
    say("replaced worker")
    stdlib_worker(*args, **kwargs)
if __name__ == "__main__":
    pool.worker = worker
    with multiprocessing.get_context(sys.argv[1]).Pool(1) as workers:
        say(workers.apply(abs, (-3,)))
""", method).stdout == "replaced worker\n3\n"


@pytest.mark.parametrize("method", METHODS)
def test_semaphore_names(same, method):
    assert same(PROGRAM + """
import itertools
numbers = itertools.count()
def make_name():
    return f"/mpf-habit-{os.getpid()}-{next(numbers)}"
def use(lock):
    with lock:
        say("child has it")
if __name__ == "__main__":
    synchronize.SemLock._make_name = staticmethod(make_name)
    ctx = multiprocessing.get_context(sys.argv[1])
    own = synchronize.SemLock(synchronize.SEMAPHORE, 1, 1, ctx=ctx)
    say(own._semlock.name is None or own._semlock.name.startswith("/mpf-habit-"))
    lock = ctx.Lock()
    run(use, lock)
""", method).stdout == "True\nchild has it\nended 0\n"


@pytest.mark.parametrize("method", METHODS)
def test_queue_feed(same, method):
    assert same(PROGRAM + """
stdlib_feed = queues.Queue._feed
def feed(*args):
    say("replaced feeder")
    stdlib_feed(*args)
def put(queue):
    queue.put("item")
if __name__ == "__main__":
    queues.Queue._feed = staticmethod(feed)
    queue = multiprocessing.get_context(sys.argv[1]).Queue()
    queue.put("item")
    say(queue.get())
    queue.close()
    queue.join_thread()
""", method).stdout == "replaced feeder\nitem\n"


@pytest.mark.parametrize("name", ["_send", "_recv", "_send_bytes"])
def test_connection_methods(same, name):
    assert same(PROGRAM + f"""
stdlib_method = connection.Connection.{name}
called = set()
def method(self, *args, **kwargs):
    called.add("{name}")
    return stdlib_method(self, *args, **kwargs)
connection.Connection.{name} = method
left, right = multiprocessing.Pipe()
left.send(["message"])
say(right.recv())
say(*called)
""").stdout == f"['message']\n{name}\n"


REDUCER = """
class Special:
    def __init__(self, number):
        self.number = number
def rebuild(number):
    return Special(number + 1000)
def reduce(special):
    return rebuild, (special.number,)
def show(special):
    say(special.number)
    return special
def put(queue):
    queue.put(Special(1))
"""


@pytest.mark.parametrize("method", METHODS)
def test_reducers_registered_after_import(same, method):
    assert same(PROGRAM + REDUCER + """
if __name__ == "__main__":
    ctx = multiprocessing.get_context(sys.argv[1])
    reduction.ForkingPickler.register(Special, reduce)
    left, right = ctx.Pipe()
    left.send(Special(1))
    say(right.recv().number)
    queue = ctx.Queue()
    queue.put(Special(2))
    say(queue.get().number)
    simple = ctx.SimpleQueue()
    simple.put(Special(3))
    say(simple.get().number)
    with ctx.Pool(1) as workers:
        workers.apply(show, (Special(4),))
""", method).stdout == "1001\n1002\n1003\n1004\n"


@pytest.mark.parametrize("name", ["dumps", "loads"])
def test_pickler_methods(same, name):
    assert same(PROGRAM + REDUCER + f"""
stdlib_method = reduction.ForkingPickler.{name}
calls = []
def method(obj, *args):
    calls.append(True)  # not obj: the standard library's buffer must not outlive its owner
    return stdlib_method(obj, *args)
reduction.ForkingPickler.{name} = staticmethod(method)
left, right = multiprocessing.Pipe()
left.send(Special(1))
say(right.recv().number, len(calls) > 0)
""").stdout == "1 True\n"


def test_default_context(same):
    assert same(PROGRAM + """
context._default_context = context.DefaultContext(multiprocessing.get_context("spawn"))
def show():
    say(__name__)
if __name__ == "__main__":
    worker = multiprocessing.Process(target=show)
    worker.start()
    worker.join()
    say(worker.exitcode)
""").stdout == "__mp_main__\n0\n"


@pytest.mark.parametrize("module, name", [("pool", "worker"), ("synchronize", "SemLock"), ("queues", "_sentinel"),
                                          ("connection", "default_family"), ("context", "_tls")])
def test_a_name_set_in_ours_is_set_in_the_stdlibs(code, module, name):
    """What is handed through is one variable, as the functions of the standard library's module see it."""
    assert code(f"""
import unittest.mock
import mpfast.{module} as ours
import multiprocessing.{module} as stdlib
former = stdlib.{name}
ours.{name} = "replaced"
print(stdlib.{name}, ours.{name})
ours.{name} = former
with unittest.mock.patch("mpfast.{module}.{name}", "mocked"):
    print(stdlib.{name}, ours.{name})
with unittest.mock.patch("multiprocessing.{module}.{name}", "mocked"):
    print(stdlib.{name}, ours.{name})
print(stdlib.{name} is former, ours.{name} is former)
""") == "replaced replaced\nmocked mocked\nmocked mocked\nTrue True\n"
