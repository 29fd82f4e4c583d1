"""What forked children run of logging's is prepared in their parent, and does what it always does."""
import pytest

from mpfast import _native, popen_fork

pytestmark = pytest.mark.skipif(not _native.ENABLED or not hasattr(popen_fork, "watching"),
                                reason="the standard library's processes are forked")

PROGRAM = """
import os
import sys
import threading
import warnings
import multiprocessing
if sys.argv[1:] == ["mpfast"]:
    import mpfast as multiprocessing
warnings.simplefilter("ignore", DeprecationWarning)  # of forks with threads
fork = multiprocessing.get_context("fork")

def run(target):
    process = fork.Process(target=target)
    process.start()
    process.join(60)
    print(process.exitcode, flush=True)

def fork_bare(target):
    pid = os.fork()
    if pid == 0:
        target()
        os._exit(0)
    print(os.waitpid(pid, 0)[1], flush=True)

%s
import logging

class Own(logging.StreamHandler):
    def _at_fork_reinit(self):
        super()._at_fork_reinit()
        print(self.get_name(), flush=True)

def add(name):
    handler = Own(sys.stdout)
    handler.set_name(name)
    logging.getLogger().addHandler(handler)
    return handler

def is_free():
    free = logging._lock.acquire(blocking=False)
    print(free, flush=True)
    if free:
        logging._lock.release()

def say():
    logging.warning("said")
    another = threading.Thread(target=is_free)
    another.start()
    another.join()

def hold():
    handler.acquire()
    held.set()
    go_on.wait()
    handler.release()

handler = add("one")
held, go_on = threading.Event(), threading.Event()
thread = threading.Thread(target=hold)
thread.start()
held.wait()
run(say)
fork_bare(say)
go_on.set()
thread.join()
%s
"""
BEFORE = {"logging is new": "", "logging is imported later": "run(print)", "logging was imported": "import logging\nrun(print)"}
AFTER = {
    "a pool": "with fork.Pool(1) as pool:\n    pool.apply(say)",
    "a handler is gone": "logging.getLogger().removeHandler(handler)\ndel handler\nrun(say)",
    "forked again": "run(lambda: run(say))",
    "the programs own hook": """
def mine():
    print("mine", flush=True)
    return original()
original = type(mine)(logging._after_at_fork_child_reinit_locks.__code__, vars(logging))
logging._after_at_fork_child_reinit_locks.__code__ = mine.__code__
logging.original = original
run(say)
import importlib
importlib.reload(logging)
add("two")
run(say)
""",
}


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("after", AFTER)
def test_locks_of_handlers_are_free_in_children(python, before, after):
    program = PROGRAM % (BEFORE[before], AFTER[after])
    theirs = python("-c", program).stdout
    assert python("-c", program, "mpfast").stdout == theirs
    assert theirs.count("True\n") > 2 and theirs.count("said\n") > 1 and theirs.count("one\n") > 1


def test_an_audit_hook_may_object(python):
    program = PROGRAM % (BEFORE["logging was imported"], "")
    objecting = """
import sys

def object_to(event, arguments):
    if event == "object.__setattr__" and arguments[1] == "__code__":
        raise RuntimeError("code is not to be changed")

sys.addaudithook(object_to)
"""
    assert python("-c", objecting + program, "mpfast").stdout == python("-c", program).stdout
