"""Modules of the library in spawned children: there as in the standard library's children, but run only when they are used."""
import os
import signal
import subprocess
import sys
import threading
import types

import pytest

from mpfast import _late, _native, popen_fork

from conftest import child_environment

native = pytest.mark.skipif(not _native.ENABLED or not hasattr(popen_fork, "watching"), reason="needs pidfds")

PROGRAM = """
import os
import sys
import multiprocessing
def f():
{function}
if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=f)
    process.start()
    process.join()
    print(process.exitcode)
"""

FUNCTIONS = {
    "attributes of the package": """
        for name in ("reduction", "spawn", "resource_tracker"):
            print(getattr(sys.modules["multiprocessing"], name))
        sys.modules["multiprocessing"].reduction.ForkingPickler.register(slice, lambda it: (slice, (1, 2)))
    """,
    "attributes of importlib": """
        import importlib
        print(importlib.util.find_spec("signal").name, importlib.machinery.SourceFileLoader)
    """,
    "what is in sys.modules": """
        print(sys.modules["signal"].SIGTERM, sys.modules["subprocess"].PIPE, sys.modules["enum"].IntEnum)
        from collections.abc import Mapping
        print(Mapping, sys.modules["collections"].OrderedDict(a=1), sys.modules["re"].findall("a+", "aab"))
    """,
    "one module each": """
        import multiprocessing.context
        import multiprocessing.reduction
        import signal
        import subprocess
        context, process = sys.modules["multiprocessing.context"], sys.modules["multiprocessing.process"]
        print(context.reduction is sys.modules["multiprocessing.reduction"], process.signal is signal)
        print(context._default_context.reducer is context.reduction)
        context.reduction.ForkingPickler = "mine"
        print(sys.modules["multiprocessing.reduction"].ForkingPickler)
        util = sys.modules["multiprocessing.util"]
        print(subprocess.PIPE, util._args_from_interpreter_flags is subprocess._args_from_interpreter_flags)
        print(isinstance(signal.SIGTERM, signal.Signals), repr(signal.SIGTERM))
    """,
    "a module that is reloaded": """
        import importlib
        import selectors
        before = selectors
        print(importlib.reload(selectors) is before, selectors.DefaultSelector)
    """,
    "a module that is found and then imported": """
        import importlib.util
        sys.path.insert(0, os.path.join(os.getcwd(), "own"))
        spec = importlib.util.find_spec("select")
        import select
        print(spec.name, hasattr(select, "poll"))
        print(len(importlib.util.find_spec("multiprocessing.spawn").loader.get_source("multiprocessing.spawn")) > 100)
    """,
    "finders of the program's around all": """
        class Around:
            def __init__(self, finder):
                self.finder = finder
            def find_spec(self, name, path=None, target=None):
                return self.finder.find_spec(name, path, target)
        sys.meta_path[:] = [Around(finder) for finder in sys.meta_path]
        from multiprocessing.shared_memory import SharedMemory
        memory = SharedMemory(create=True, size=10)
        memory.close()
        memory.unlink()
        print("fine")
    """,
    "a finder that refuses": """
        class Refusing:
            def find_spec(self, name, path=None, target=None):
                print("asked for", name)
                raise ImportError(name)
        sys.meta_path.insert(0, Refusing())
        import pickle, signal, socket, subprocess, struct, selectors
        print(signal.SIGTERM)
    """,
    "modules that are asked for everything": """
        for name, module in sorted(sys.modules.items()):
            if name in ("signal", "socket", "importlib.util"):
                print(name, module.__name__, module.__file__, module.__spec__.origin, len(dir(module)) > 5, module)
    """,
    "all modules, each asked for something": """
        before = set(sys.modules)
        for module in list(sys.modules.values()):
            getattr(module, "__file__", None)
        others = {"typing.io", "typing.re", "_py_warnings", "math.integer", "_math_integer"}  # made or used by one of them alone
        print(sorted(set(sys.modules) - before - others))
    """,
    "parts of a package first": """
        sys.modules["collections"].abc.Mapping
        if "re._parser" in sys.modules:
            from re._parser import parse
            from re._constants import error
            print(parse("a"), error)
        from importlib.util import find_spec
        print(find_spec("os").name)
    """,
    "what is called in forked children": """
        from multiprocessing import util
        class Thing:
            pass
        thing, registry = Thing(), util._afterfork_registry
        print(len(registry), bool(registry), list(registry.items()))
        util.register_after_fork(thing, lambda it: print("forked", it is thing, flush=True))
        import weakref
        for each in registry, util._afterfork_registry:
            print(isinstance(each, weakref.WeakValueDictionary), len(each), list(each.values()) == [thing], each.keys() is not None)
        print(type(util._afterfork_registry))
        child = multiprocessing.get_context("fork").Process(target=print, args=("child",))
        child.start()
        child.join()
        del thing
        print(len(registry))
    """,
    **{"what is called in forked children, " + name: f"""
        from multiprocessing import util
        {act}
        class Thing:
            pass
        thing = Thing()
        util.register_after_fork(thing, print)
        print(len(util._afterfork_registry), type(util._afterfork_registry))
    """ for name, act in {
        "weakref imported anew": 'del sys.modules["weakref"]; import weakref',
        "no weakref": 'sys.modules["weakref"] = None',
        "an import function that refuses": 'import builtins; builtins.__import__ = None',
        "another weakref in util": 'import builtins; util.weakref = __import__("weakref")'}.items()},
    **{"what is called in forked children, first " + use: f"""
        registry = sys.modules["multiprocessing.util"]._afterfork_registry
        try:
            print({use})
        except KeyError as error:
            print(repr(error))
        print(registry.__class__, len(registry))
    """ for use in ("1 in registry", "list(registry)", "registry[1]", "registry.pop(1)", "registry.__delitem__(1)",
                    "registry.valuerefs()", "isinstance(registry, __import__('weakref').WeakValueDictionary)",
                    "__import__('weakref').finalize(print, print).alive")},
    "modules in C": """
        import importlib, math, select
        from unittest import mock
        print(sys.modules["math"] is math, sys.modules["select"] is select)
        with mock.patch("math.sqrt", return_value=42):
            print(math.sqrt(4))
        print(importlib.reload(math) is math, math.sqrt(4))
    """,
    "threads at once": """
        import threading
        names = ["selectors", "socket", "subprocess", "pickle", "signal", "struct", "enum", "array"]
        barrier = threading.Barrier(len(names))
        def use(name):
            barrier.wait(60)
            module = __import__(name)
            assert len(dir(module)) > 5 and not hasattr(module, "no_such_name")
        threads = [threading.Thread(target=use, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print("fine")
    """,
    "a user without rights": """
        if os.getuid() == 0:
            os.setuid(65534)
        import multiprocessing.reduction, pickle, signal, subprocess
        print(signal.SIGTERM, os.setuid.__name__)
    """,
    "another root": """
        if os.getuid() == 0:
            os.makedirs("empty", exist_ok=True)
            os.chroot("empty")
        import pickle, re, selectors, signal, socket, struct, subprocess
        print(signal.SIGTERM)
    """,
}

@native
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_child_sees_what_the_standard_librarys_does(same, tmp_path, name):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "select.py").write_text("")
    same(PROGRAM.format(function=FUNCTIONS[name]))


@native
def test_finders_around_all_in_the_parent(same):
    same("""
import sys
import multiprocessing

class Around:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        return self.finder.find_spec(name, path, target)

def f():
    print("child", flush=True)

sys.meta_path[:] = [Around(finder) for finder in sys.meta_path]
if __name__ == "__main__":
    import multiprocessing.pool
    process = multiprocessing.get_context("spawn").Process(target=f)
    process.start()
    process.join()
    print(multiprocessing.pool.Pool)
""")


WARNS = """
import multiprocessing
def f():
    print("child", 1 is 1, flush=True)
if __name__ == "__main__":
    for _ in range(2):
        process = multiprocessing.get_context({method!r}).Process(target=f)
        process.start()
        process.join()
"""


@native
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_each_process_warns_of_the_main_module(same, method):
    outcome = same(WARNS.format(method=method))
    assert outcome.stderr.count("SyntaxWarning") == 3 or method == "forkserver"  # from 3.14 on its server runs the main module


DESTROYED = """
import math, os, re, signal, socket, struct, subprocess, sys, types
class Last:
    def __del__(self, write=os.write, used=(math, re, signal, socket, struct, subprocess, types)):
        math, re, signal, socket, struct, subprocess, types = used
        write(1, repr((math.sqrt(4), signal.SIGTERM, struct.calcsize("i"), subprocess.PIPE)).encode())
def f():
    global last
    last = Last()
if __name__ == "__main__":
    process = __import__(sys.argv[1]).get_context("spawn").Process(target=f)
    process.start()
    process.join()
"""


@native
def test_what_is_destroyed_in_the_end_can_use_what_is_imported(python, tmp_path):
    (tmp_path / "program.py").write_text(DESTROYED)
    expected, done = (python("program.py", package) for package in ("multiprocessing", "mpfast"))
    # Some versions of the interpreter do not destroy it in a child of the standard library.
    assert done.stdout == (expected.stdout or done.stdout) and done.stderr == expected.stderr


USES_UTIL_LAST = """
import multiprocessing
from multiprocessing import util

class Thing:
    pass

class Last:
    def __del__(self):
        thing = Thing()
        print(bool({use}), flush=True)

def f():
    global last
    last = Last()

if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=f)
    process.start()
    process.join()
    print(process.exitcode)
"""


@native
@pytest.mark.parametrize("use, printed", (
    ("util.Finalize(thing, print, ('finalized',))", "True\nfinalized\n0\n"),
    ("util.register_after_fork(thing, print)", "False\n0\n"),
    ("len(util._afterfork_registry)", "False\n0\n")))
def test_what_is_destroyed_in_the_end_can_use_the_registry_of_util(python, tmp_path, use, printed):
    (tmp_path / "program.py").write_text(USES_UTIL_LAST.format(use=use))
    expected, done = python("program.py"), python("-m", "mpfast", "program.py")
    assert done.stdout == printed and not done.stderr
    # Some versions of the interpreter do not destroy it in a child of the standard library.
    assert expected.stdout in (printed, "0\n") and not expected.stderr


@native
def test_the_import_of_the_package_has_nothing_run(python, tmp_path):
    program = """
import sys
{}

def f():
    names = "enum", "pickle", "re", "signal", "socket", "multiprocessing.reduction"
    print([name for name in names if type(sys.modules[name]) is type(sys)])
    import mpfast
    print(mpfast.reducer.ForkingPickler.__name__, type(mpfast.reducer) is type(sys))

if __name__ == "__main__":
    import mpfast
    process = mpfast.get_context("spawn").Process(target=f)
    process.start()
    process.join()
"""
    outcomes = []
    for line in "import mpfast", "":
        (tmp_path / "program.py").write_text(program.format(line))
        done = python("program.py")
        outcomes.append((done.stdout, done.stderr))
    # How the package is installed can have modules run at the start of the interpreter.
    assert outcomes[0] == outcomes[1] and outcomes[1][0].endswith("ForkingPickler True\n")
    assert "reduction" not in outcomes[1][0] and not outcomes[1][1]


@native
def test_an_import_function_of_the_programs_may_use_what_is_late(same):
    outcome = same("""
import builtins
import importlib.util
import multiprocessing
import sys

plainly = builtins.__import__

def importing(name, names=None, locals=None, fromlist=(), level=0):
    if level:
        importlib.util.resolve_name("." * level + name, names["__package__"])
    return plainly(name, names, locals, fromlist, level)

builtins.__import__ = importing

def f():
    import unittest
    print(builtins.__import__ is importing, unittest.TestCase.__name__)

if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=f)
    process.start()
    process.join()
    print(process.exitcode)
""")
    assert outcome.stdout == "True TestCase\n0\n"


@native
def test_a_warning_that_was_shown_is_not_shown_again(same):
    outcome = same("""
import multiprocessing
import warnings

def f():
    pass

def warn():
    warnings.warn("once")

if __name__ == "__main__":
    for _ in range(2):
        warn()
        process = multiprocessing.get_context("spawn").Process(target=f)
        process.start()
        process.join()
""")
    assert outcome.stderr.count("UserWarning") == 1


@native
def test_a_worker_gets_what_looks_like_bytes_as_it_is(same):
    outcome = same("""
import array
import multiprocessing
import sys

def arguments(_):
    return sys.argv[1:]

if __name__ == "__main__":
    for strange in bytearray(b"abc"), array.array("i", [1]), frozenset([1]), [b"x", (1, {"a": 1j})]:
        sys.argv[1:] = ["a", strange, None]
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            print(pool.apply(arguments, (0,)))
""")
    assert outcome.stdout.startswith("['a', bytearray(b'abc'), None]\n")


@native
def test_what_a_child_does_not_have_is_named(same):
    outcome = same("""
import multiprocessing

def get(queue):
    for _ in range(2):
        try:
            print(queue.get())
        except AttributeError as error:
            print(error, error.name, type(error.obj))

if __name__ == "__main__":
    def mine():
        pass
    class Mine:
        pass
    queue = multiprocessing.get_context("spawn").SimpleQueue()
    queue.put(mine)
    queue.put(Mine)
    process = multiprocessing.get_context("spawn").Process(target=get, args=(queue,))
    process.start()
    process.join()
""")
    assert "attribute 'Mine'" in outcome.stdout


@native
def test_a_child_has_one_resource_tracker(same):
    same("""
import multiprocessing
import threading

def make(barrier, names):
    from multiprocessing.shared_memory import SharedMemory
    barrier.wait()
    memory = SharedMemory(create=True, size=10)
    memory.close()
    names.append(memory.name)

def f(queue):
    import multiprocessing.shared_memory
    barrier, names = threading.Barrier(8), []
    threads = [threading.Thread(target=make, args=(barrier, names)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    queue.put(names)

if __name__ == "__main__":
    from multiprocessing.shared_memory import SharedMemory
    context = multiprocessing.get_context("spawn")
    for _ in range(3):
        queue = context.SimpleQueue()
        process = context.Process(target=f, args=(queue,))
        process.start()
        names = queue.get()
        process.join()
        for name in names:
            memory = SharedMemory(name)
            memory.close()
            memory.unlink()
    print("fine")
""")


@native
def test_shared_memory_of_a_child_whose_finders_are_its_own_stays(same):
    same("""
import multiprocessing
import sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        from importlib.machinery import BuiltinImporter, FrozenImporter, PathFinder
        for finder in BuiltinImporter, FrozenImporter, PathFinder:
            spec = finder.find_spec(name, path, target)
            if spec:
                return spec

def f(queue):
    sys.meta_path[:] = [Finder()]
    from multiprocessing.shared_memory import SharedMemory
    memory = SharedMemory(create=True, size=10)
    memory.buf[0] = 42
    memory.close()
    queue.put(memory.name)

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    process = context.Process(target=f, args=(queue,))
    process.start()
    name = queue.get()
    process.join()
    from multiprocessing.shared_memory import SharedMemory
    memory = SharedMemory(name)
    print(memory.buf[0])
    memory.close()
    memory.unlink()
""")


SITE = """
import sys
class Log:
    def __init__(self):
        self.file = open("log.child" if "--multiprocessing-fork" in sys.orig_argv else "log.parent", "w")
        sys.excepthook = self.on_error
    def on_error(self, *error):
        sys.__excepthook__(*error)
log = Log()
log.file.write("started")
"""


@native
def test_what_the_start_of_the_interpreter_has_opened_is_written(tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(SITE)
    (tmp_path / "program.py").write_text("""
import sys
def f(): pass
if __name__ == "__main__":
    process = __import__(sys.argv[1]).get_context("spawn").Process(target=f)
    process.start()
    process.join()
""")
    environment = child_environment()
    environment["PYTHONPATH"] = os.pathsep.join([str(site), environment["PYTHONPATH"]])
    written = []
    for package in "multiprocessing", "mpfast":
        (tmp_path / "log.child").unlink(missing_ok=True)
        subprocess.run([sys.executable, "program.py", package], cwd=tmp_path, env=environment, timeout=60, check=True)
        written.append((tmp_path / "log.child").read_text())
    assert written[1] in ("started", written[0])  # free-threaded interpreters may lose it, whatever library it is


@native
def test_a_main_module_of_no_file_is_as_bare_as_ever(tmp_path):
    errors = []
    for package in "multiprocessing", "mpfast":
        program = (f"import {package} as mp\ndef f(x): pass\n"
                   "p = mp.get_context('spawn').Process(target=f, args=(1,)); p.start(); p.join(); print(p.exitcode)")
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, env=child_environment())
        errors.append((done.stdout, done.stderr.splitlines()[-1]))
    assert errors[0] == errors[1] and "attribute 'f'" in errors[1][1]


@native
def test_a_pool_after_its_initializer_has_given_up_the_files(python, tmp_path):
    if os.getuid() != 0:
        pytest.skip("chroot() is for root")
    (tmp_path / "program.py").write_text("""
import os
import mpfast
class Thing:
    pass
def leave():
    os.makedirs("empty", exist_ok=True)
    os.chroot("empty")
def work(x):
    if x == 3:
        raise ValueError(x)
    return Thing() if x else lambda: None
if __name__ == "__main__":
    with mpfast.get_context("spawn").Pool(1, leave) as pool:
        print(type(pool.apply(work, (1,))))
        for x in 3, 0:
            try:
                pool.apply(work, (x,))
            except Exception as error:
                print(type(error).__name__)
""")
    done = python("program.py")
    assert done.stdout.splitlines() == ["<class '__main__.Thing'>", "ValueError", "MaybeEncodingError"], done.stderr


# ---- the modules themselves

@pytest.fixture
def late(tmp_path, monkeypatch):
    """Function (source, name="late_module", given={}) that returns a late module of that contents."""
    monkeypatch.setattr(_late, "_path", [])

    def make(source, name="late_module", given=None):
        (tmp_path / f"{name}.py").write_text(source)
        monkeypatch.delitem(sys.modules, name, raising=False)
        _late.begin([name], [str(tmp_path)], {name: given} if given is not None else {})
        module = sys.modules[name]
        monkeypatch.setitem(sys.modules, name, module)  # is taken out in the end
        return module

    return make


def test_it_runs_when_something_is_asked_of_it(late, capsys):
    module = late("print('runs')\nvalue = 1")
    _late.begun(["late_module"])
    assert isinstance(module, types.ModuleType) and _late.is_late(module) and module.__name__ == "late_module"
    import late_module
    assert late_module is module and _late.is_late(module) and capsys.readouterr().out == ""
    assert module.value == 1 and type(module) is types.ModuleType
    assert module.value == 1 and capsys.readouterr().out == "runs\n"


def test_what_is_given_is_there_until_begun(late):
    module = late("value = 1", given={"value": 0})
    assert module.value == 0 and vars(module)["value"] == 0 and not hasattr(module, "__path__") and _late.is_late(module)
    _late.begun(["late_module"])
    assert module.value == 1


@pytest.mark.parametrize("use", [dir, repr, vars, lambda module: module.__file__, lambda module: module.__spec__.origin])
def test_what_has_it_run(late, use):
    module = late("value = 1")
    _late.begun(["late_module"])
    assert "value" in use(module) or "late_module.py" in use(module)
    assert not _late.is_late(module)


def test_it_can_look_at_itself_while_it_runs(late):
    module = late("import sys\nitself = sys.modules[__name__]\nseen = repr(itself), dir(itself), itself.__name__\nitself.more = 1")
    _late.begun(["late_module"])
    assert "late_module" in module.seen[0] and "itself" in module.seen[1] and module.more == 1


def test_what_is_set_before_it_runs_stays(late):
    module = late("value = other = 1")
    _late.begun(["late_module"])
    module.value = 2
    del module.other
    assert module.value == 2 and not hasattr(module, "other")


def test_one_that_fails_can_be_tried_again(late, tmp_path):
    module = late("import no_such_module_at_all")
    _late.begun(["late_module"])
    with pytest.raises(ModuleNotFoundError):
        module.value
    assert _late.is_late(module)
    (tmp_path / "late_module.py").write_text("value = 'second'")
    assert module.value == "second"


def test_functions_are_called_once_it_has_run(late):
    module, called = late("value = 1"), []
    _late.begun(["late_module"])
    _late.after("late_module", called.append)
    assert called == []
    module.value
    assert called == [module]
    _late.after("late_module", called.append)
    assert called == [module, module]


def test_other_threads_see_it_whole(late):
    module = late("import sys; sys.started.set(); sys.go_on.wait(60); value = 1")
    _late.begun(["late_module"])
    sys.started, sys.go_on = threading.Event(), threading.Event()
    seen = []
    try:
        threads = [threading.Thread(target=lambda: seen.append(module.value)) for _ in range(2)]
        threads[0].start()
        assert sys.started.wait(60)
        threads[1].start()
        sys.go_on.set()
        for thread in threads:
            thread.join(60)
        assert seen == [1, 1]
    finally:
        del sys.started, sys.go_on


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_forked_child_does_not_wait_for_a_thread_it_has_not(late):
    inner = late("value = 1", "late_inner")
    module = late("import sys, late_inner; late_inner.value; sys.stop(); value = late_inner.value")
    _late.begun(["late_inner", "late_module"])
    started, go_on = threading.Event(), threading.Event()

    def stop():
        started.set()
        go_on.wait(60)

    sys.stop = stop
    thread = threading.Thread(target=lambda: module.value)
    thread.start()
    assert started.wait(60)
    pid = os.fork()
    if pid == 0:
        try:
            signal.alarm(60)
            sys.stop = int
            os._exit(10 * module.value + inner.value)
        finally:
            os._exit(1)
    go_on.set()
    thread.join(60)
    del sys.stop
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 11
    assert module.value == 1


def test_what_leaves_the_files_has_all_run_before(late):
    module, prepared = late("value = 1"), []
    _late.begun(["late_module"])

    def chroot(path):
        return path, type(module) is types.ModuleType

    place = types.SimpleNamespace(chroot=chroot)
    _late.run_before_leaving(place, lambda: prepared.append(1))
    assert place.chroot is not chroot and place.chroot.__name__ == "chroot"
    assert place.chroot("/") == ("/", True) and prepared == [1]
    assert place.chroot is chroot
