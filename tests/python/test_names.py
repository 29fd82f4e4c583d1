"""Every public name of the running version is here, with the same signature."""
import importlib
import inspect

import pytest

MODULES = [
    "", "context", "process", "queues", "synchronize", "connection", "sharedctypes", "shared_memory", "managers", "pool",
    "heap", "reduction", "resource_tracker", "resource_sharer", "spawn", "forkserver", "popen_fork",
    "popen_spawn_posix", "popen_forkserver", "util", "dummy", "dummy.connection", "concurrent.futures",
    "concurrent.futures.process", "concurrent.futures.thread",
]


def pair(name):
    if name.startswith("concurrent"):
        return importlib.import_module(name), importlib.import_module(f"mpfast.{name}")
    suffix = f".{name}" if name else ""
    return importlib.import_module(f"multiprocessing{suffix}"), importlib.import_module(f"mpfast{suffix}")


def names_of(stdlib):
    return {name for name in dir(stdlib) if not (name.startswith("__") and name.endswith("__"))}


@pytest.mark.parametrize("module", MODULES)
def test_every_name_is_there(module):
    stdlib, ours = pair(module)
    assert {name for name in names_of(stdlib) if not hasattr(ours, name)} == set()
    assert names_of(stdlib) <= set(dir(ours))


@pytest.mark.parametrize("module", MODULES)
def test_star_import_gives_the_same_names(module):
    stdlib, ours = pair(module)
    if hasattr(stdlib, "__all__"):
        assert list(ours.__all__) == list(stdlib.__all__)


@pytest.mark.parametrize("module", MODULES)
def test_signatures(module):
    stdlib, ours = pair(module)
    for name in getattr(stdlib, "__all__", []):
        assert_same_signature(f"{module}.{name}", getattr(stdlib, name), getattr(ours, name))


def test_signatures_of_subclasses():
    for package in pair("shared_memory"):
        base = package.SharedMemory

        class New(base):
            def __new__(cls, path, mode="r"):
                return super().__new__(cls)

        class Init(base):
            def __init__(self, where):
                pass

        class Meta(type(base)):
            def __call__(cls, query):
                pass

        class Called(base, metaclass=Meta):
            pass

        assert [str(inspect.signature(cls)) for cls in (New, Init, Called)] == ["(path, mode='r')", "(where)", "(query)"]


@pytest.mark.parametrize("method", ["send", "recv", "send_bytes", "recv_bytes", "recv_bytes_into", "poll", "fileno", "close"])
def test_signatures_of_connections(method):
    stdlib, ours = pair("connection")
    assert str(inspect.signature(ours.Connection)) == str(inspect.signature(stdlib.Connection))
    assert_same_signature(method, getattr(stdlib.Connection, method), getattr(ours.Connection, method))


def assert_same_signature(name, theirs, ours):
    if inspect.isclass(theirs):
        assert inspect.isclass(ours), name
        expected, found = parameters(theirs), parameters(ours)
        assert expected is None or found[:len(expected)] == expected, name
        for attribute, value in vars(theirs).items():
            if callable(value) and (not attribute.startswith("_") or attribute == "__init__"):
                assert_same_signature(f"{name}.{attribute}", value, getattr(ours, attribute))
    elif parameters(theirs) is not None:
        # What can be called there can be called here; more, with a default, may follow.
        expected, found = parameters(theirs), parameters(ours)
        assert found[:len(expected)] == expected, name
        assert all(default is not inspect.Parameter.empty for *_, default in found[len(expected):]), name


def parameters(function):
    if not callable(function):
        return None
    try:
        signature = inspect.signature(function)
    except ValueError:
        return None
    return [(parameter.name, "self" if parameter.name == "self" else parameter.kind, parameter.default)
            for parameter in signature.parameters.values()]


def test_exceptions_are_the_stdlibs():
    import multiprocessing
    import mpfast
    for name in ("ProcessError", "BufferTooShort", "TimeoutError", "AuthenticationError"):
        assert issubclass(getattr(mpfast, name), getattr(multiprocessing, name))
    import queue
    from mpfast.queues import Empty, Full
    assert (Empty, Full) == (queue.Empty, queue.Full)


def test_futures_has_a_short_name():
    import mpfast.concurrent.futures
    import mpfast.concurrent.futures.process
    import mpfast.futures
    import mpfast.futures.process
    assert mpfast.futures.ProcessPoolExecutor is mpfast.concurrent.futures.ProcessPoolExecutor
    assert mpfast.futures.process is mpfast.concurrent.futures.process
    assert mpfast.futures.wait is mpfast.concurrent.futures.wait


@pytest.mark.parametrize("module", ["process", "reduction", "util", "resource_tracker", "resource_sharer", "spawn",
                                    "forkserver", "dummy", "dummy.connection"])
def test_what_a_process_has_once_is_the_same_module(module):
    stdlib, ours = pair(module)
    assert ours is stdlib


def test_an_unknown_name_is_an_attribute_error():
    import mpfast.pool
    with pytest.raises(AttributeError, match="module 'mpfast.pool' has no attribute 'nothing'"):
        mpfast.pool.nothing
    with pytest.raises(AttributeError, match="module 'mpfast' has no attribute 'nothing'"):
        mpfast.nothing
    with pytest.raises(ImportError):
        from mpfast.pool import nothing
