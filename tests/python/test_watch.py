"""``_core.Watch``: a call when a descriptor is readable, without a thread of the interpreter until then."""
import os
import signal
import sys
import textwrap
import threading
import time

import pytest

from mpfast import _native

pytestmark = pytest.mark.skipif(_native.native("Watch") is None, reason="needs the native part")
LONG = 60


@pytest.fixture
def ends():
    pair = os.pipe()
    yield pair
    for descriptor in pair:
        os.close(descriptor)


def new(descriptors, function):
    return _native.core.Watch(descriptors, function)


def until_let_go(function, references):
    """Wait until so many references to *function* are left: a call that has told of itself has yet to return."""
    deadline = time.monotonic() + LONG
    while sys.getrefcount(function) - 1 != references:  # this function has one more
        assert time.monotonic() < deadline
        os.sched_yield()


def references_to(function):
    return sys.getrefcount(function) - 1


def test_calls_once_when_one_is_readable(ends):
    reader, writer = ends
    quiet = os.eventfd(0) if hasattr(os, "eventfd") else os.dup(writer)
    called = threading.Semaphore(0)
    watch = new((quiet, reader), called.release)
    assert not called.acquire(timeout=0)
    os.write(writer, b"xx")
    assert called.acquire(timeout=LONG)
    os.write(writer, b"x")
    assert watch.stop() is False
    assert not called.acquire(timeout=0)
    os.close(quiet)


def test_is_no_thread_of_threading(ends):
    seen = []
    done = threading.Event()

    def look():
        seen.append(threading.get_ident())
        done.set()

    before = threading.enumerate()
    watch = new((ends[0],), look)
    assert threading.enumerate() == before
    os.write(ends[1], b"x")
    assert done.wait(LONG)
    assert seen[0] != threading.get_ident()
    assert threading.enumerate() == before
    watch.stop()


def test_stopped_it_does_not_call(ends):
    calls = []
    watch = new((ends[0],), lambda: calls.append(1))
    assert watch.stop() is True
    os.write(ends[1], b"x")
    assert watch.stop() is True
    del watch
    assert calls == []


def test_the_function_is_let_go(ends):
    class Function:
        def __call__(self):
            done.set()

    done = threading.Event()
    function = Function()
    before = references_to(function)
    watch = new((ends[0],), function)
    watch.stop()
    assert references_to(function) == before
    del watch
    watch = new((ends[0],), function)
    os.write(ends[1], b"x")
    assert done.wait(LONG)
    del watch
    until_let_go(function, before)


def test_stopped_by_the_function(ends):
    done = threading.Event()
    holder = []

    def stop():
        holder[0].stop()
        done.set()

    holder.append(new((ends[0],), stop))
    os.write(ends[1], b"x")
    assert done.wait(LONG)


def test_an_exception_is_reported(ends, monkeypatch):
    reports = []
    told = threading.Event()

    def hook(unraisable):
        reports.append((unraisable.exc_type, unraisable.object))
        told.set()

    monkeypatch.setattr(sys, "unraisablehook", hook)

    def fail():
        raise KeyError("no")

    watch = new((ends[0],), fail)
    os.write(ends[1], b"x")
    assert told.wait(LONG)
    assert reports == [(KeyError, fail)]
    watch.stop()


@pytest.mark.parametrize("arguments", [(), ((0,),), ([0], print), (("0",), print), ((0, None), print)])
def test_bad_arguments(arguments):
    with pytest.raises(TypeError):
        new(*arguments) if len(arguments) == 2 else _native.core.Watch(*arguments)


def test_signals_are_not_for_its_thread_and_are_for_the_function(ends):
    masks = []
    done = threading.Event()

    def look():
        masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, []))
        done.set()

    watch = new((ends[0],), look)
    os.write(ends[1], b"x")
    assert done.wait(LONG)
    watch.stop()
    assert masks == [signal.pthread_sigmask(signal.SIG_BLOCK, [])]


def test_the_end_of_the_program(code):
    code(textwrap.dedent("""
        import os
        from mpfast import _core
        reader, writer = os.pipe()
        kept = [_core.Watch((reader,), print) for _ in range(3)]
        class AtTheEnd:
            def __del__(self, write=os.write):
                write(writer, b"x")
        kept.append(AtTheEnd())
    """))


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_forked_child(ends):
    calls = []
    done = threading.Event()

    def call():
        calls.append(os.getpid())
        done.set()

    watch = new((ends[0],), call)
    pid = os.fork()
    if pid == 0:
        watch.stop()
        os._exit(bool(calls))
    assert os.waitpid(pid, 0)[1] == 0
    os.write(ends[1], b"x")
    assert done.wait(LONG)
    assert calls == [os.getpid()]
    watch.stop()


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_child_forked_after_the_call(ends):
    done = threading.Event()

    def call():
        done.set()

    before = references_to(call)
    watch = new((ends[0],), call)
    os.write(ends[1], b"x")
    assert done.wait(LONG)
    until_let_go(call, before)
    pid = os.fork()
    if pid == 0:
        watch.stop()
        os._exit(references_to(call) != before)
    assert os.waitpid(pid, 0)[1] == 0
    watch.stop()


def test_not_in_another_interpreter(code):
    code(textwrap.dedent("""
        import sys
        try:
            import _interpreters as interpreters
        except ImportError:
            import _xxsubinterpreters as interpreters
        program = '''
        from mpfast import _core
        try:
            _core.Watch((), print)
        except RuntimeError as error:
            assert "interpreter" in str(error)
        else:
            raise SystemExit("it was made")
        '''
        interpreter = interpreters.create("legacy") if sys.version_info >= (3, 13) else interpreters.create()
        error = interpreters.run_string(interpreter, __import__("textwrap").dedent(program))
        assert error is None, error
    """))
