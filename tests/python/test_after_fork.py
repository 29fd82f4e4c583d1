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
    "handlers in a list": """
logging._at_fork_reinit_lock_weakset = [handler]
run(say)
fork_bare(say)
""",
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


OWN = {
    "a hook of the same names": """
import logging

class Failing(logging.Handler):
    def _at_fork_reinit(self):
        raise ValueError

def mine():
    for handler in _at_fork_reinit_lock_weakset:
        try:
            handler._at_fork_reinit()
        except:
            pass
    _lock._at_fork_reinit()

def is_free():
    another = threading.Thread(target=lambda: print(logging._lock.acquire(blocking=False), flush=True))
    another.start()
    another.join()
    os._exit(3)

logging._after_at_fork_child_reinit_locks.__code__ = mine.__code__
failing = Failing()
at_end = lambda: run(is_free)
""",
    "a handler with a descriptor": """
import logging

class Reinit:
    def __get__(self, instance, owner):
        if instance is None:
            raise RuntimeError("not in the class")
        return lambda: print("called", flush=True)

class Described(logging.Handler):
    _at_fork_reinit = Reinit()

described = Described()
""",
    "another module called logging": """
class Shim(type(sys)):
    def __getattr__(self, name):
        raise ImportError(name)

sys.modules["logging"] = Shim("logging")
""",
    "a function of a module for what it has not": """
logging = sys.modules["logging"] = type(sys)("logging")
logging.__getattr__ = lambda name: print("asked for", name)
""",
    "a module that is imported when it is used": """
import importlib.util
spec = importlib.util.find_spec("logging")
loader = importlib.util.LazyLoader(spec.loader)
logging = sys.modules["logging"] = importlib.util.module_from_spec(spec)
loader.exec_module(logging)
at_end = lambda: print(type(logging).__name__, flush=True)
""",
}


@pytest.mark.parametrize("own", OWN)
def test_what_is_the_programs_own_is_neither_asked_nor_replaced(python, own):
    start = PROGRAM[:PROGRAM.index("%s")]
    program = start + "at_end = print\n" + OWN[own] + """
run(print)
with fork.Pool(1) as pool:
    print(pool.apply(abs, (-1,)), flush=True)
at_end()
"""
    theirs = python("-c", program).stdout
    assert python("-c", program, "mpfast").stdout == theirs
    assert "0\n" in theirs and "1\n" in theirs


AUDITED = """
import sys

def object_to(event, arguments):
    if event == "object.__setattr__" and arguments[1] == "__code__":
        raise %s("code is not to be changed")

sys.addaudithook(object_to)
"""


def test_an_audit_hook_may_object(python):
    program = PROGRAM % (BEFORE["logging was imported"], "")
    assert python("-c", AUDITED % "RuntimeError" + program, "mpfast").stdout == python("-c", program).stdout


def test_an_audit_hook_of_what_the_server_preloads_may_object(tmp_path, python):
    (tmp_path / "auditing.py").write_text(AUDITED % "RuntimeError")
    (tmp_path / "main.py").write_text("""
import mpfast
if __name__ == "__main__":
    context = mpfast.get_context("forkserver")
    context.set_forkserver_preload(["auditing"])
    with context.Pool(2) as pool:
        print(pool.map(abs, [-1]))
""")
    assert python(tmp_path / "main.py").stdout == "[1]\n"


@pytest.mark.parametrize("hook", ("threading", "logging"))
def test_an_interrupt_of_an_audit_hook_is_raised(python, hook):
    if hook == "threading" and not popen_fork.bootstrap.skip_hook(False):
        pytest.skip("its hook stays as it is in a free-threaded build")
    program = AUDITED % "KeyboardInterrupt" + f"""
import {hook}
import mpfast
process = mpfast.get_context("fork").Process(target=print)
try:
    process.start()
except KeyboardInterrupt:
    print("interrupted", process.pid, mpfast.active_children())
"""
    assert python("-c", program).stdout == "interrupted None []\n"
