"""What runs in a child around the program's function: that of the standard library, whatever the program has made of it."""
import os
import sys

import pytest

from mpfast import _native

from conftest import METHODS

pytestmark = pytest.mark.skipif(not _native.ENABLED, reason="needs the native part")

FAMILY = """
import multiprocessing
import multiprocessing.util
import os
import sys
import threading
import time

class Noted:
    pass

def note(noted):
    print("after the fork", flush=True)

def sleep():
    time.sleep(600)

def last():
    print("a grandchild is waited for", flush=True)

def ancestor():
    print(multiprocessing.parent_process().name, multiprocessing.current_process()._identity, flush=True)
    multiprocessing.get_context(method).Process(target=last).start()

def parents(*ancestors):
    parent = multiprocessing.parent_process()
    print(parent.name, parent.pid == ancestors[-1] == os.getppid() or method == "forkserver", parent.is_alive(), parent,
          multiprocessing.active_children(), flush=True)
    if len(ancestors) < 3:
        multiprocessing.current_process().name = "generation %d" % len(ancestors)
        run(multiprocessing.Process(target=parents, args=(*ancestors, os.getpid())))

def outlive():
    threading.main_thread().join()
    print("a thread is waited for", flush=True)

def leave_thread():
    threading.Thread(target=outlive).start()

def forebear():
    multiprocessing.get_context(method).Process(target=sleep, daemon=True).start()
    print("a daemon is ended", flush=True)

def threads():
    print([thread.name for thread in threading.enumerate()], threading.main_thread() is threading.current_thread(),
          threading.main_thread().native_id == threading.get_native_id(), flush=True)

class Overriding(multiprocessing.Process):
    def _after_fork(self):
        super()._after_fork()
        print("overridden", flush=True)

class Bootstrapping(multiprocessing.Process):
    def _bootstrap(self, *args, **kwargs):
        print("its own _bootstrap", flush=True)
        return super()._bootstrap(*args, **kwargs) + 3

def run(process):
    process.start()
    process.join()
    print(process.exitcode, flush=True)

method = sys.argv[1]

if __name__ == "__main__":
    multiprocessing.set_start_method(method)
    run(multiprocessing.Process(target=ancestor))
    run(multiprocessing.Process(target=parents, args=(os.getpid(),)))
    multiprocessing.current_process().name = "renamed"
    run(multiprocessing.Process(target=parents, args=(os.getpid(),), daemon=False))
    run(multiprocessing.Process(target=leave_thread))
    run(Bootstrapping(target=threads))
    run(multiprocessing.Process(target=forebear))
    run(multiprocessing.Process(target=threads))
    starter = threading.Thread(target=run, args=(multiprocessing.Process(target=threads),), name="starter")
    starter.start()
    starter.join()
    run(Overriding(target=threads))
    if method == "fork":
        noted = Noted()
        multiprocessing.util.register_after_fork(noted, note)
        end = os._exit
        os._exit = lambda code: (print("os._exit", code, flush=True), end(code + 5))
        run(multiprocessing.Process(target=threads, daemon=True))
        os._exit = end
        own = multiprocessing.Process()
        own.run = lambda: print("an instance's own run", flush=True)
        run(own)
        run(multiprocessing.Process(target=print, args=(sys.stdin.closed,), kwargs={"flush": True}))
        for name in "_exit_function", "_flush_std_streams", "_run_after_forkers", "info":
            former = getattr(multiprocessing.util, name)
            setattr(multiprocessing.util, name, lambda *args: print(name, "replaced", args, flush=True))
            run(multiprocessing.Process(target=threads))
            setattr(multiprocessing.util, name, former)
    run(multiprocessing.Process(target=threads))
"""


@pytest.mark.parametrize("method", METHODS)
def test_a_child_has_the_family_and_the_threads_that_it_has_in_the_standard_library(same, method):
    assert same(FAMILY, method).status == 0


FAILURES = """
import multiprocessing
import sys

class Failure(Exception):
    def __str__(self):
        return "two\\nlines"

def deep(n, kind):
    if n:
        return deep(n - 1, kind)
    if kind == "chained":
        try:
            raise KeyError("first")
        except KeyError:
            raise Failure
    if kind == "caused":
        raise Failure from ValueError("cause")
    if kind == "interrupt":
        raise KeyboardInterrupt
    if kind == "syntax":
        compile("1 +", "text", "eval")
    if kind == "stdout":
        sys.stdout = None
        return
    raise SystemExit({"text": Failure(), "none": None, "true": True, "big": 1 << 40}[kind])

class Derived(multiprocessing.Process):
    def run(self):
        deep(1, "chained")

class Passing(multiprocessing.Process):
    def run(self):
        super().run()

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    for kind in "chained", "caused", "interrupt", "syntax", "stdout", "text", "none", "true", "missing":
        for cls in multiprocessing.Process, Passing:
            process = cls(target=deep, args=(2, kind), name=kind)
            process.start()
            process.join()
            print(kind, process.exitcode, flush=True)
    process = Derived()
    process.start()
    process.join()
    print(process.exitcode)
    process = multiprocessing.Process(target=deep, args=(1,))
    process.start()
    process.join()
    print(process.exitcode)
"""


@pytest.mark.parametrize("method", METHODS)
def test_a_failure_is_told_with_the_traceback_of_the_standard_library(same, method):
    assert same(FAILURES, method).status == 0


LOGGING = """
import multiprocessing
import sys

def turn_on():
    multiprocessing.log_to_stderr(20)

def nothing():
    pass

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    for target in turn_on, nothing:
        process = multiprocessing.Process(target=target)
        process.start()
        process.join()
"""


@pytest.mark.parametrize("method", METHODS)
def test_logging_that_a_child_turns_on_tells_of_its_end(same, method):
    outcome = same(LOGGING, method)
    assert outcome.stderr.count("process exiting with exitcode 0") == 1


STDIN = """
import os
import sys
import mpfast

def look(nested):
    assert sys.stdin.read() == "" and not sys.stdin.closed and sys.stdin.readable()
    assert os.path.samestat(os.fstat(sys.stdin.fileno()), os.stat(os.devnull))
    assert not os.get_inheritable(sys.stdin.fileno())
    if nested:
        child = mpfast.get_context("fork").Process(target=look, args=(False,))
        child.start()
        child.join()
        sys.exit(child.exitcode)

if __name__ == "__main__":
    for _ in range(2):
        before = len(os.listdir("/proc/self/fd"))
        children = [mpfast.get_context("fork").Process(target=look, args=(True,)) for _ in range(3)]
        for child in children:
            child.start()
        for child in children:
            child.join()
            child.close()
        assert [child for child in children if child._closed] == children
        assert len(os.listdir("/proc/self/fd")) == before
"""


@pytest.mark.parametrize("how", ("pipe", "file", "closed"))
def test_the_standard_input_of_a_forked_child_is_empty(python, tmp_path, how):
    (tmp_path / "program.py").write_text(STDIN)
    command = {"pipe": (), "file": (), "closed": ("-c", "import os; os.close(0); exec(open('program.py').read())")}[how]
    done = python(*(command or ("program.py",)), stdin="" if how != "file" else os.devnull)
    assert done.returncode == 0 and not done.stderr, done.stderr


ENDS = """
import _thread
import atexit
import logging
import multiprocessing
import multiprocessing.util
import os
import sys
import threading

def say(text):
    print(text, threading.main_thread().is_alive(), multiprocessing.current_process().name, flush=True)

def fail():
    raise ValueError("at exit")

def nothing():
    pass

def finalizer():
    multiprocessing.util.Finalize(None, say, ("finalizer",), exitpriority=1)

def both():
    finalizer()
    atexit.register(say, "at exit")
    raise KeyError("end")

def failing():
    atexit.register(say, "before it fails")
    atexit.register(fail)

def instead():
    atexit.unregister(multiprocessing.util._exit_function)
    atexit.register(say, "instead")

def grandchild():
    multiprocessing.get_context(sys.argv[1]).Process(target=say, args=("grandchild",), name="the grandchild").start()

def unlisted():
    start = getattr(_thread, "start_joinable_thread", None)
    if start is not None:
        start(lambda: (threading.main_thread().join(), say("a thread that is not listed")), daemon=False)

def exits():
    multiprocessing.log_to_stderr(20)
    multiprocessing.util._logger.handlers[0].setFormatter(logging.Formatter("%(message)s"))
    sys.exit(True)

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    atexit.register(print, "at exit of the parent")
    multiprocessing.util.Finalize(None, print, ("finalizer of the parent",), exitpriority=1)
    if sys.argv[1] == "fork":
        hook = lambda: print("hook", threading.main_thread().native_id == threading.get_native_id(), flush=True)
        os.register_at_fork(after_in_child=hook)
    for target in nothing, finalizer, both, failing, instead, grandchild, unlisted, exits:
        process = multiprocessing.Process(target=target, name=target.__name__)
        process.start()
        process.join()
        print(target.__name__, process.exitcode, flush=True)
"""


@pytest.mark.parametrize("method", METHODS)
def test_a_child_ends_with_what_it_has_registered_for_that(same, method):
    assert same(ENDS, method).status == 0


@pytest.mark.skipif(not getattr(sys, "_is_gil_enabled", lambda: True)(), reason="there it is the standard library's code")
def test_a_forked_child_is_run_without_code_of_python_around_it(python):
    program = """if True:
        import mpfast, sys
        def callers(frame):
            while frame is not None:
                yield frame.f_code.co_name
                frame = frame.f_back
        def look():
            print(*callers(sys._getframe()))
        process = mpfast.get_context("fork").Process(target=look)
        process.start()
        process.join()
    """
    names = python("-c", program).stdout.split()
    assert names[0] == "look" and not {"run", "_bootstrap", "_original", "_run"} & set(names), names
