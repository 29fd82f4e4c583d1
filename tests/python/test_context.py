"""Contexts: whose instances they are, and one start method for both packages."""
import multiprocessing
import multiprocessing.context
import multiprocessing.process
import pickle

import pytest
from conftest import METHODS

import mpfast
import mpfast.context


@pytest.mark.parametrize("method", [None, *METHODS])
def test_a_context_is_one_of_the_stdlibs(method):
    context = mpfast.get_context(method)
    assert isinstance(context, multiprocessing.context.BaseContext)
    assert isinstance(context, type(multiprocessing.get_context(method)))
    assert issubclass(context.Process, multiprocessing.process.BaseProcess)
    assert issubclass(context.Process, multiprocessing.get_context(method).Process)
    assert context.Process.__name__ == multiprocessing.get_context(method).Process.__name__
    assert context.get_start_method() == multiprocessing.get_context(method).get_start_method()


def test_an_unknown_method():
    with pytest.raises(ValueError, match="cannot find context for 'threads'"):
        mpfast.get_context("threads")
    with pytest.raises(ValueError, match="cannot set start method of concrete context"):
        mpfast.get_context("spawn").set_start_method("fork")


def test_contexts_pickle():
    context = pickle.loads(pickle.dumps(mpfast.get_context("spawn")))
    assert type(context) is type(mpfast.get_context("spawn"))


SETTERS = ["mpfast", "multiprocessing"]


@pytest.mark.parametrize("setter", SETTERS)
def test_the_start_method_is_the_same_in_both(code, setter):
    assert code(f"""
import mpfast, multiprocessing
print(mpfast.get_start_method(allow_none=True), multiprocessing.get_start_method(allow_none=True))
{setter}.set_start_method("spawn")
print(mpfast.get_start_method(), multiprocessing.get_start_method())
print(type(mpfast.get_context()) is type(mpfast.get_context("spawn")),
      multiprocessing.get_context() is multiprocessing.get_context("spawn"))
for package in mpfast, multiprocessing:
    try:
        package.set_start_method("fork")
    except RuntimeError as exc:
        print(exc)
{setter}.set_start_method("forkserver", force=True)
print(mpfast.get_start_method(), multiprocessing.get_start_method())
{setter}.set_start_method(None, force=True)
print(mpfast.get_start_method(allow_none=True), multiprocessing.get_start_method(allow_none=True))
print(mpfast.get_all_start_methods() == multiprocessing.get_all_start_methods())
""").splitlines() == [
        "None None", "spawn spawn", "True True", "context has already been set", "context has already been set",
        "forkserver forkserver", "None None", "True",
    ]


@pytest.mark.parametrize("method", METHODS)
def test_children_have_the_start_method_of_the_parent(same, method):
    assert same("""
import multiprocessing
import sys

def report(lock):
    with lock:
        import multiprocessing.context as stdlib
        print(multiprocessing.get_start_method(), stdlib._default_context.get_start_method(), flush=True)
        child = multiprocessing.Process(target=print, args=("grandchild",))
        child.start()
        child.join()

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    lock = multiprocessing.Lock()
    process = multiprocessing.Process(target=report, args=(lock,))
    process.start()
    process.join()
    print(process.exitcode)
""", method).stdout.splitlines() == [f"{method} {method}", "grandchild", "0"]


def test_a_default_context_of_ones_own():
    stdlib = multiprocessing.context.DefaultContext(multiprocessing.get_context("spawn"))
    own = mpfast.context.DefaultContext(mpfast.get_context("spawn"))
    assert own.get_start_method() == stdlib.get_start_method() == "spawn"
    own.set_start_method("fork", force=True)
    assert own.get_context() is mpfast.get_context("fork")
    assert stdlib.get_start_method() == "spawn"
