"""Modules that the fork server reads in advance: children cannot tell, other than by the clock."""
import os
import re
import shutil
import socket
import sys
from importlib.machinery import BuiltinImporter, FrozenImporter, PathFinder

import pytest

from mpfast import _native, _prefetch, popen_fork

pytestmark = pytest.mark.skipif(not _native.ENABLED or not hasattr(popen_fork, "watching") or _prefetch.new() is None,
                                reason="this version's own import system reads every module")

# A program whose children send what `look` returns, and which files they have opened until then.
PROGRAM = """
import sys
import {multiprocessing} as multiprocessing

opened = []

def note(event, arguments):
    if event == "open" and isinstance(arguments[0], str) and {place!r} in arguments[0]:
        opened.append(arguments[0])

if __name__ == "__mp_main__":
    sys.addaudithook(note)

{imports}

def look():
    {look}

def run(connection):
    connection.send((look(), opened))

def child():
    ours, theirs = multiprocessing.Pipe()
    process = context.Process(target=run, args=(theirs,))
    process.start()
    theirs.close()
    try:
        return ours.recv()
    except EOFError:
        return None, None
    finally:
        process.join()

def child_that_opens_nothing():
    "What a child has seen that did not read the modules itself."
    for _ in range(100):
        seen, files = child()
        assert files is not None
        if files == []:
            return seen
    raise AssertionError("every child reads its modules")

if __name__ == "__main__":
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([])  # else some versions import the main module in the server, and nothing in children
    {main}
"""


@pytest.fixture
def program(python, tmp_path):
    """Function (modules, imports, look, main) that runs a program on mpfast and returns what it prints.

    modules: file -> text.  stdlib: run it on the standard library.  arguments: of the interpreter.
    """
    place = tmp_path / "modules"

    def run(modules, imports, look, main, stdlib=False, arguments=(), **environment):
        place.mkdir(exist_ok=True)
        for name, text in modules.items():
            (place / name).parent.mkdir(exist_ok=True)
            (place / name).write_text(text)
        source = PROGRAM.format(multiprocessing="multiprocessing" if stdlib or arguments else "mpfast", place=str(tmp_path), imports=imports,
                                look=look.replace("\n", "\n    "), main=main.replace("\n", "\n    "))
        (place / "program.py").write_text(source)
        done = python(*arguments, place / "program.py", **environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.mark.parametrize("arguments", ((), ("-m", "mpfast")))
def test_a_module_is_what_it_is_otherwise(program, arguments):
    look = """import builtins
import os
import helper
spec = helper.__spec__
return ({name: repr(value) for name, value in vars(helper).items() if name not in ("__builtins__", "__spec__", "__loader__")},
        list(vars(helper)), type(helper.__loader__), helper.__loader__ is spec.loader, list(vars(spec)), spec.origin, spec.cached,
        spec._initializing, helper.__builtins__ is vars(builtins), sys.modules["helper"] is helper, helper.pid == os.getpid(),
        builtins.__import__.__self__ is builtins)"""
    out = program({"helper.py": "'Its text.'\nimport os\npid = os.getpid()\n"}, "import helper", look, """
first, files = child()
assert files, "nothing was read"
first[0].pop("pid")
for _ in range(5):
    later = child_that_opens_nothing()
    later[0].pop("pid")
    assert later == first, (later, first)
assert first[-4:] == (True, True, True, True), first
print("the same")""", arguments=arguments)
    assert out == "the same\n"


def test_what_has_changed_is_read_again(program):
    out = program({"helper.py": "value = 1\n"}, "import helper", "return helper.value", """
assert child_that_opens_nothing() == 1
for value in 22, 333, 4444:
    with open(sys.path[0] + "/helper.py", "w") as file:
        file.write(f"value = {value}\\n")
    print(*[child()[0] for _ in range(6)])""")
    assert out == "22 22 22 22 22 22\n333 333 333 333 333 333\n4444 4444 4444 4444 4444 4444\n"


def test_a_file_in_an_earlier_directory_comes_first(program, tmp_path):
    library = tmp_path / "library"
    library.mkdir()
    (library / "helper.py").write_text("value = 'library'\n")
    out = program({}, "import helper", "return helper.value", """
print(child_that_opens_nothing())
with open(sys.path[0] + "/helper.py", "w") as file:
    file.write("value = 'beside the program'\\n")
print(*{child()[0] for _ in range(6)})
sys.path[0:0] = [sys.path[0] + "/more"]
import os
os.mkdir(sys.path[0])
with open(sys.path[0] + "/helper.py", "w") as file:
    file.write("value = 'in a new directory'\\n")
print(*{child()[0] for _ in range(6)})""", PYTHONPATH=f"{library}:{sys.path[0]}:{':'.join(p for p in sys.path if p)}")
    assert out == "library\nbeside the program\nin a new directory\n"


@pytest.fixture
def finders(monkeypatch):
    """The import system's own finders only: not pytest's."""
    monkeypatch.setattr(sys, "meta_path", [BuiltinImporter, FrozenImporter, PathFinder])


def test_a_file_that_comes_while_the_module_is_looked_for(tmp_path, monkeypatch, finders):
    directories = [tmp_path / "first", tmp_path / "second"]
    for directory in directories:
        directory.mkdir()
    (directories[1] / "helper_that_moves.py").write_text("")
    monkeypatch.setattr(sys, "path", [str(d) for d in directories])
    monkeypatch.setattr(_prefetch, "_is_unsettled", lambda file: False)
    stamps = _prefetch._core.file_stamps
    assert _prefetch.new()._read("helper_that_moves")[0].origin == str(directories[1] / "helper_that_moves.py")

    class Core:
        Prefetch = _prefetch._core.Prefetch

        @staticmethod
        def file_stamps(files):
            (directories[0] / "helper_that_moves.py").write_text("")
            os.utime(directories[0], (1, 1))
            return stamps(files)

    monkeypatch.setattr(_prefetch, "_core", Core)
    assert _prefetch.new()._read("helper_that_moves") is None


def test_what_the_server_does_for_children_is_bounded(tmp_path, monkeypatch, finders):
    for name in ("held_0", "held_1", "held_2", "young"):
        (tmp_path / f"{name}.py").write_text("")
        os.utime(tmp_path / f"{name}.py", (1, 1))
    os.utime(tmp_path, (1, 1))
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # a directory for it would change the one that holds the modules
    monkeypatch.setattr(_prefetch, "_MOST", 2)
    monkeypatch.setattr(_prefetch, "_READINGS", 4)
    names = "held_0\nheld_1\nheld_2\nnot_there"
    prefetch = _prefetch.new()
    assert [prefetch.told(names), *(prefetch.told(None) for _ in range(4))] == [True, True, True, False, None]
    assert prefetch._held == {"held_0", "held_1"}
    assert prefetch.told(names) is None

    prefetch = _prefetch.new()
    monkeypatch.setattr(_prefetch, "_is_unsettled", lambda file: True)
    assert [prefetch.told("young") for _ in range(6)] == [False, False, False, False, None, None]
    assert prefetch._held == set()


PACKAGE = {
    "package/__init__.py": "from . import first\nfrom .second import *\nfrom .third import thing as other\nname = __name__\n",
    "package/first.py": "import package\nname = __name__, package.__name__\n",
    "package/second.py": "from . import first\nimport package.third\nsecond = first.name, package.third.thing\n",
    "package/third.py": "thing = object.__name__\n",
    "package/replaced.py": "import sys, types\nsys.modules[__name__] = types.SimpleNamespace(kind='replaced', __spec__=None)\n",
    "package/circular.py": "import package\ntry:\n    package.circular\nexcept AttributeError as error:\n    said = str(error)\n",
    "package/later.py": "def __getattr__(name):\n    if name == 'lazy':\n        return 'made when asked for'\n"
                        "    raise AttributeError(name)\n",
    "package/inner/__init__.py": "from ..first import name\nfrom .. import third\nfrom . import deep\n",
    "package/inner/deep.py": "from ..second import second\nfrom .. import first as aunt\nimport warnings\n"
                             "with warnings.catch_warnings(record=True) as caught:\n    warnings.simplefilter('always')\n"
                             "    warnings.warn('who?', stacklevel=2)\nwarned = caught[0].filename\n",
    "failing.py": "import os\nif os.path.exists(__file__ + '.fail'):\n    import package.first\n    1 / 0\n",
    "outer.py": "import failing\n",
}


def test_packages_and_failures_are_those_of_the_standard_library(program, tmp_path):
    imports = """
import traceback
import package
import package.inner
from package import later, circular
from package.later import lazy
import package.replaced
from package import replaced
try:
    import outer
    failure = None
except ZeroDivisionError:
    failure = traceback.format_exc()
"""
    look = """return (sorted((module, name, repr(value)) for module in list(sys.modules)
               if module.startswith("package") and hasattr(sys.modules[module], "__file__")
               for name, value in vars(sys.modules[module]).items() if name != "__getattr__" and name not in ("__builtins__", "__spec__", "__loader__")),
        [name for name in sys.modules if name.partition(".")[0] in ("package", "failing", "outer")],
        lazy, circular.said, replaced.kind, package.replaced is replaced, package.inner.deep.warned, failure)"""
    main = """
print(SEEN)
with open(sys.path[0] + "/failing.py.fail", "w"):
    pass
for _ in range(4):
    print(child()[0])"""
    outs = []
    for stdlib in True, False:
        for former in (tmp_path / "modules").glob("*.fail"):
            former.unlink()
        outs.append(program(PACKAGE, imports, look, main.replace("SEEN", "child()[0]" if stdlib else "child_that_opens_nothing()"),
                            stdlib=stdlib))
    if sys.version_info >= (3, 11):
        assert "ZeroDivisionError" in outs[0].splitlines()[1]
    assert re.sub(' at 0x[0-9a-f]*', '', outs[1]).replace("mpfast", "multiprocessing") == re.sub(' at 0x[0-9a-f]*', '', outs[0])


def test_a_finder_of_the_program_is_asked(program):
    imports = """
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "helper":
            asked.append(name)

asked = []
sys.meta_path.insert(0, Finder())
import helper"""
    out = program({"helper.py": ""}, imports, "return asked", "print(*[child()[0] for _ in range(8)])")
    assert out.split() == ["['helper']"] * 8


# Modules of which the standard library's children say what they are: (modules, imports, look, change before the last children).
CASES = {
    "imported twice": (
        {"helper.py": "import os\nn = globals().get('n', 0) + 1\n"},
        "import helper; first = helper; del sys.modules['helper']; import helper",
        "return first is helper, first.n, helper.n", ""),
    "imported again after a failure": (
        {"helper.py": "import os\nn = globals().get('n', 0) + 1\nif os.path.exists(__file__ + '.fail'):\n    1 / 0\n"}, """
for _ in range(3):
    try:
        import helper
        said = helper.n
        break
    except ZeroDivisionError as error:
        said = error.__traceback__.tb_next.tb_frame.f_globals["n"]
""", "return said, 'helper' in sys.modules", "open(sys.path[0] + '/helper.py.fail', 'w').close()"),
    "an attribute of a module's class": (
        {"pkg/__init__.py": "import sys, types\nclass Lazy(types.ModuleType):\n    def __getattr__(self, name):\n"
                            "        if name == 'sub':\n            return 'lazy'\n        raise AttributeError(name)\n"
                            "sys.modules[__name__].__class__ = Lazy\n",
         "pkg/sub.py": ""}, "from pkg import sub", "return str(sub)", ""),
    "a package that comes before a module": (
        {"helper.py": "kind = 'module'\n", "helper/data": ""}, "import helper", "return helper.kind",
        "open(sys.path[0] + '/helper/__init__.py', 'w').write('kind = 1')"),
    "a package that is replaced": (
        {"pkg/__init__.py": "", "pkg/sub.py": "import sys, types\nsys.modules['pkg'] = types.ModuleType('pkg')\n"},
        "import pkg.sub", "return hasattr(sys.modules['pkg'], 'sub')", ""),
    "a submodule that says it is not there": (
        {"pkg/__init__.py": "", "pkg/sub.py": "import os\nif os.path.exists(__file__ + '.fail'):\n"
                                              "    raise ModuleNotFoundError('no', name=__name__)\n"}, """
try:
    from pkg import sub
    said = "there"
except ImportError as error:
    said = repr(error)
""", "return said", "open(sys.path[0] + '/pkg/sub.py.fail', 'w').close()"),
    "a thread that waits for the module that has started it": (
        {"helper.py": "import os, threading\nseen = []\ndef late():\n    import helper\n    seen.append(hasattr(helper, 'last'))\n"
                      "if os.path.exists(__file__ + '.thread'):\n    thread = threading.Thread(target=late)\n    thread.start()\n"
                      "    thread.join(0.1)  # it is not let in before the end of the module\nlast = True\n"},
        "import helper", "if hasattr(helper, 'thread'):\n    helper.thread.join()\nreturn helper.seen",
        "open(sys.path[0] + '/helper.py.thread', 'w').close()"),
    "an __import__ of the program": (
        {"helper.py": "import json.tool\n"}, """
import builtins
usual, asked = builtins.__import__, []
def ask(name, *arguments):
    asked.append(name)
    return usual(name, *arguments)
builtins.__import__ = ask
import helper
""", "return asked[:2], builtins.__import__ is ask", ""),
}


@pytest.mark.parametrize("case", CASES)
def test_what_children_of_the_standard_library_see(program, tmp_path, case):
    modules, imports, look, change = CASES[case]
    main = f"""
first, files = child()
for _ in range(MANY):
    later, now = child()
    assert later == first, later
    if len(now) < len(files):
        break
else:
    assert MANY < 100, "every child reads its modules"
print(first)
{change}
print([child()[0] for _ in range(3)])"""
    outs = []
    for stdlib in True, False:
        shutil.rmtree(tmp_path / "modules", ignore_errors=True)
        many = 3 if stdlib else 8 if case == "an __import__ of the program" else 100
        outs.append(program(modules, imports, look, main.replace("MANY", str(many)), stdlib=stdlib))
    assert outs[1] == outs[0]


def test_what_has_changed_is_read_in_advance_again(program):
    out = program({"helper.py": "value = 1\n"}, "import helper", "return helper.value", """
for value in 1, 22, 333:
    with open(sys.path[0] + "/helper.py", "w") as file:
        file.write(f"value = {value}\\n")
    print(child_that_opens_nothing())""")
    assert out == "1\n22\n333\n"


def test_a_child_writes_to_no_descriptor_that_has_become_another_one():
    server, client = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    other, stranger = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with server, client, other, stranger:
        prefetch = _prefetch.new()
        prefetch.serve_child(client.fileno())
        prefetch._tell_of("first.module", "second")
        assert server.recv(100)[4:] == b"first\nfirst.module\nsecond"
        os.dup2(stranger.fileno(), client.fileno())
        prefetch._tell_of("third")
        os.close(stranger.detach())
        client.close()
        assert other.recv(100) == b""


def test_the_function_of_a_pool_is_read_in_advance_too(program):
    text = "import os, sys\npid = os.getpid()\ndef seen(_):\n    files = sys.modules['__main__'].opened\n" \
           "    return pid == os.getpid(), any('helper' in file for file in files)\n"
    out = program({"helper.py": text}, "", "return None", """
import helper
for _ in range(50):
    with context.Pool(2) as pool:
        own, read = zip(*pool.map(helper.seen, range(20), chunksize=1))
    assert all(own)
    if not any(read):
        print("nobody has read it")
        break""")
    assert out == "nobody has read it\n"
