"""The start methods: how a child comes to be, what it imports, which processes there are besides."""
import os
import signal
import subprocess
import sys

import pytest

import mpfast
from mpfast import _native, popen_fork

from conftest import METHODS, child_environment

pytestmark = pytest.mark.skipif(not _native.ENABLED or not hasattr(popen_fork, "watching"), reason="needs pidfds")

CHILDREN = """
import os
def children():
    names = set()
    for pid in os.listdir("/proc"):
        if pid.isdigit():
            try:
                fields = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == os.getpid() and fields[0] != "Z":
                names.add(int(pid))
    return names
"""


def test_a_spawned_process_is_alone(code):
    assert code(CHILDREN + """
import time
import mpfast
p = mpfast.get_context("spawn").Process(target=time.sleep, args=(600,))
p.start()
print(children() == {p.pid})
p.kill()
p.join()
""") == "True\n"


HAVE_RUN = "import sys, os; os.write(1, ascii(sorted(n for n, m in sys.modules.items() if type(m) is type(sys))).encode())"


def test_a_spawned_process_runs_what_it_needs(code):
    out = code(f"""
import mpfast
process = mpfast.get_context("spawn").Process(target=exec, args=({HAVE_RUN!r}, {{}}))
process.start()
process.join()
""")
    assert "'multiprocessing.process'" in out
    assert not [name for name in ("subprocess", "socket", "pickle", "mpfast") if f"'{name}'" in out]


def test_a_spawned_worker_runs_what_it_needs(python, tmp_path):
    (tmp_path / "program.py").write_text(f"""
if __name__ == "__main__":
    import mpfast
    with mpfast.get_context("spawn").Pool(1) as pool:
        pool.apply(exec, ({HAVE_RUN!r}, {{}}))
""")
    out = python("program.py").stdout
    assert "'mpfast._crew_worker'" in out
    assert not [name for name in ("subprocess", "socket", "pickle", "mpfast", "mpfast.context") if f"'{name}'" in out]


WORKERS = """
import os
import {package} as mp
import sys

def tell(*args):
    p = mp.current_process()
    return (p.name, p.daemon, p.exitcode, p._identity, p._parent_pid == os.getppid(), type(p.authkey).__name__, len(p.authkey),
            type(p).__name__, p._args[1:] and "arguments", p._kwargs, mp.parent_process().name, os.path.basename(sys.argv[0]))

def begin(*args):
    global begun
    begun = args

def what_has_begun():
    return begun

if __name__ == "__main__":
    context = mp.get_context("spawn")
    with context.Pool(1) as pool:
        print(pool.apply(tell))
    with context.Pool(1, begin, (1, [2.5, None], context.Lock() and "x")) as pool:
        print(pool.apply(what_has_begun))
    class Own(context.Process):
        def run(self):
            print("own", flush=True)
            super().run()
    process = Own(target=print, args=("target",), name="named", daemon=True)
    try:
        process.start()
    except Exception as error:
        print(type(error).__name__)
"""


def test_a_spawned_worker_is_the_process_that_it_was(python, tmp_path):
    outputs = []
    for package in "multiprocessing", "mpfast":
        (tmp_path / "program.py").write_text(WORKERS.format(package=package))
        done = python("program.py")
        outputs.append((done.returncode, done.stdout))
    assert outputs[0] == outputs[1] and "SpawnPoolWorker-1" in outputs[0][1]


def test_pickling_of_processes_that_a_program_has_replaced_is_used(python, tmp_path):
    (tmp_path / "program.py").write_text("""
import mpfast
import multiprocessing.reduction as reduction
original = reduction.dump
def dump(obj, file, protocol=None):
    print("dumped", type(obj).__name__, flush=True)
    original(obj, file, protocol)
if __name__ == "__main__":
    reduction.dump = dump
    with mpfast.get_context("spawn").Pool(1) as pool:
        print(pool.apply(abs, (-1,)))
""")
    assert python("program.py").stdout.splitlines() == ["dumped dict", "dumped SpawnProcess", "1"]


LEAVES = """
import gzip
import sys
import mpfast

def leave_file():
    global file
    file = gzip.open("file.gz", "wt")
    file.write("all of it")  # and never closed

def leave_object():
    global last

    class Last:
        def __del__(self):
            print("an object")

    last = Last()

def leave_object_without_attributes():
    global last

    class Last:
        __slots__ = ()

        def __del__(self):
            print("an object without attributes")

    last = Last()

def leave_generator():
    global last

    def generate():
        try:
            yield 1
        finally:
            print("a generator")

    last = generate()
    next(last)

def leave_callback():
    import atexit

    class Last:
        def __del__(self):
            print("of a callback")

    def make():
        global last
        last = Last()

    atexit.register(make)

def leave_patch():
    import copyreg

    class Last:
        def __del__(self):
            print("in a module of the library")

    copyreg.own = Last()

def leave_what_must_not_be_asked():
    global own, proxy

    class Meta(type):
        __module__ = property(lambda cls: 1 / 0)

        def __getattr__(cls, name):
            raise RuntimeError(name)

    own = Meta("Own", (), {})()
    proxy = type("Proxy", (), {"__class__": property(lambda self: 1 / 0), "__getattr__": Meta.__getattr__})()

def leave_a_strange_stream():
    sys.stdin = type("Stream", (), {"buffer": property(lambda self: 1 / 0), "close": lambda self: None})()

if __name__ == "__main__":
    multiprocessing = {"mpfast": mpfast, "multiprocessing": __import__("multiprocessing")}[sys.argv[1]]
    for leave in (leave_file, leave_object, leave_object_without_attributes, leave_generator, leave_callback, leave_patch,
                  leave_what_must_not_be_asked, leave_a_strange_stream):
        process = multiprocessing.get_context("spawn").Process(target=leave)
        process.start()
        process.join()
        print(leave.__name__, process.exitcode, flush=True)
    print(gzip.open("file.gz").read(), flush=True)
"""


def test_what_a_spawned_process_leaves_is_destroyed_while_it_can_do_something(python, tmp_path):
    (tmp_path / "program.py").write_text(LEAVES)
    done, expected = python("program.py", "mpfast"), python("program.py", "multiprocessing")
    if expected.returncode == 0:  # the file was whole
        assert (done.returncode, done.stdout, done.stderr) == (0, expected.stdout, expected.stderr)
    else:  # some versions of the interpreter destroy the objects of such a process too late for the standard library
        assert set(expected.stdout.splitlines()) <= set(done.stdout.splitlines())
    assert "leave_what_must_not_be_asked 0" in done.stdout and "leave_a_strange_stream 0" in done.stdout


SAME_NAMES = """
import os
import sys
if sys.argv[1:] == ["mpfast"]:
    import mpfast as multiprocessing
else:
    import multiprocessing
import multiprocessing.popen_spawn_posix as loaded  # and all that it imports; binds no name of the package

def child(name):
    print(name, hasattr(__import__(name), "OWN"), flush=True)
    if name == "selectors":
        del sys.modules[name]
        print("anew:", hasattr(__import__(name), "OWN"), flush=True)
    print(multiprocessing.Lock().acquire(), flush=True)

if __name__ == "__main__":
    path = list(sys.path)
    for name in ("signal", "socket", "struct", "selectors", "subprocess", "pickle", "threading", "weakref", "types", "shlex"):
        os.mkdir(name)
        with open(f"{name}/{name}.py", "w") as file:
            file.write("OWN = True")
        sys.path[:] = [os.path.abspath(name), *path]
        process = multiprocessing.get_context("spawn").Process(target=child, args=(name,))
        process.start()
        process.join()
        print(process.exitcode, flush=True)
"""


def test_modules_of_the_program_are_taken_for_the_librarys_as_ever(python, tmp_path):
    told = []
    for package in ("mpfast", ""):
        directory = tmp_path / (package or "library")
        directory.mkdir()
        (directory / "program.py").write_text(SAME_NAMES)
        told.append(subprocess.run([sys.executable, "program.py", package], cwd=directory, env=child_environment(),
                                   capture_output=True, text=True, timeout=120).stdout)
    assert told[0] == told[1] and "socket False\nTrue\n0" in told[0] and "shlex True\nTrue\n0" in told[0]


@pytest.mark.parametrize("method", ("spawn", "forkserver"))
def test_shared_memory_of_a_child_outlives_it_without_a_word(python, tmp_path, method):
    (tmp_path / "program.py").write_text("""
import sys
import mpfast
from multiprocessing import shared_memory

def create(queue):
    memory = shared_memory.SharedMemory(create=True, size=10)
    memory.buf[0] = 7
    memory.close()
    queue.put(memory.name)

if __name__ == "__main__":
    ctx = mpfast.get_context(sys.argv[1])
    queue = ctx.SimpleQueue()
    for _ in range(2):
        p = ctx.Process(target=create, args=(queue,))
        p.start()
        p.join()
        memory = shared_memory.SharedMemory(queue.get())
        print(memory.buf[0])
        memory.close()
        memory.unlink()
""")
    done = python("program.py", method)
    assert (done.stdout, done.stderr) == ("7\n7\n", "")


MAIN = """
import multiprocessing
import sys

class Point:
    def __init__(self, x):
        self.x = x

def show(point):
    main = sys.modules["__main__"]
    print(type(point) is Point, point.x, __name__, main is sys.modules["__mp_main__"], main.__spec__ and main.__spec__.name,
          main.__package__, main.__loader__ is None, sys.argv, sys.path[:1] == [sys.path[0]], main.__doc__)

if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")
    p = multiprocessing.Process(target=show, args=(Point(5),))
    p.start()
    p.join()
    print(p.exitcode)
"""


@pytest.mark.parametrize("way", ("script", "module", "package", "directory", "no suffix"))
def test_the_main_module_of_a_spawned_process(python, tmp_path, way):
    def outcome(source):
        place = tmp_path / "package"
        place.mkdir(exist_ok=True)
        (place / "__init__.py").write_text("")
        for name in ("program.py", "package/inner.py", "package/__main__.py", "program"):
            (tmp_path / name).write_text(source)
        arguments = {"script": ["program.py"], "module": ["-m", "program"], "package": ["-m", "package.inner"],
                     "directory": ["package"], "no suffix": ["program"]}[way]
        done = python(*arguments, "argument")
        return done.returncode, done.stdout, done.stderr.splitlines()[-1:]

    expected = outcome(MAIN)
    assert "5 __mp_main__" in expected[1] or way == "directory"
    assert outcome(MAIN.replace("import multiprocessing\n", "import mpfast as multiprocessing\n")) == expected


def test_a_main_module_that_has_changed_is_read_again(code, tmp_path):
    path = tmp_path / "changing.py"
    path.write_text("def show():\n    print('before')\n")
    assert code(f"""
import sys
import mpfast
import mpfast._child
sys.modules["__main__"].__file__ = {str(path)!r}
path = {str(path)!r}
ctx = mpfast.get_context("spawn")
class Show:
    def __reduce__(self):
        return eval, ("__import__('sys').modules['__mp_main__'].show()",)
for text in ("before", "after, and longer"):
    open(path, "w").write("def show():\\n    print(%r)\\n" % text)
    p = ctx.Process(target=id, args=(Show(),))
    p.start()
    p.join()
""") == "before\nafter, and longer\n"


@pytest.mark.parametrize("options", (["-O"], ["-X", "dev"], ["-W", "error::UserWarning", "-s"], ["-X", "utf8=1", "-b"]))
def test_a_spawned_process_has_the_flags_of_its_parent(python, tmp_path, options):
    (tmp_path / "program.py").write_text("""
import sys
import mpfast
def show():
    print(sys.flags, sys.warnoptions, sorted(sys._xoptions.items()))
if __name__ == "__main__":
    show()
    sys.stdout.flush()
    p = mpfast.get_context("spawn").Process(target=show)
    p.start()
    p.join()
""")
    parent, child = python(*options, "program.py").stdout.splitlines()
    assert parent == child


def test_replaced_functions_of_spawn_are_used(python, tmp_path):
    (tmp_path / "program.py").write_text("""
import sys
import mpfast
from multiprocessing import spawn

def replace(name):
    former = getattr(spawn, name)
    def replacement(*args, **kwargs):
        print(name, sorted(kwargs))
        return former(*args, **kwargs)
    setattr(spawn, name, replacement)

if __name__ == "__main__":
    for name in ("get_preparation_data", "get_command_line", "get_executable"):
        replace(name)
    sys.stdout.flush()
    p = mpfast.get_context("spawn").Process(target=print, args=("child",))
    p.start()
    p.join()
""")
    lines = python("-u", "program.py").stdout.splitlines()
    assert "get_preparation_data []" in lines
    assert "get_command_line ['pipe_handle', 'tracker_fd']" in lines
    assert lines[-1] == "child"


def test_a_bootstrap_that_is_replaced_is_used(python, tmp_path):
    (tmp_path / "program.py").write_text("""
import sys
import mpfast
from multiprocessing.process import BaseProcess
former = BaseProcess._bootstrap
def _bootstrap(self, *args, **kwargs):
    print("replaced", flush=True)
    return former(self, *args, **kwargs)
BaseProcess._bootstrap = _bootstrap
if __name__ == "__main__":
    for method in mpfast.get_all_start_methods():
        p = mpfast.get_context(method).Process(target=print, args=(method,))
        p.start()
        p.join()
""")
    expected = [word for method in mpfast.get_all_start_methods() for word in ("replaced", method)]
    assert python("-u", "program.py").stdout.split() == expected


# --- the fork server --------------------------------------------------------------------------------------------------


def get_pid():
    return os.getpid()


def test_what_is_preloaded_is_there(python, tmp_path):
    (tmp_path / "preloaded.py").write_text("import os\npid = os.getpid()\nprint('preloaded', end='')\n")
    (tmp_path / "program.py").write_text("""
import os
import mpfast
def show():
    import preloaded
    print(preloaded.pid == os.getppid())
if __name__ == "__main__":
    ctx = mpfast.get_context("forkserver")
    ctx.set_forkserver_preload(["preloaded", "not_there"])
    for _ in range(2):
        p = ctx.Process(target=show)
        p.start()
        p.join()
""")
    assert python("program.py").stdout == "preloadedTrue\nTrue\n"


PRELOADING = """
import sys
import mpfast
import mpfast.forkserver

def show(name):
    print(name in sys.modules)

if __name__ == "__main__":
    ctx = mpfast.get_context("forkserver")
    for names, options in (%s):
        ctx.set_forkserver_preload(names, **options)
        p = ctx.Process(target=show, args=(names[0],))
        try:
            p.start()
        except ConnectionError as error:
            print("not started:", *getattr(error, "__notes__", ()))
        else:
            p.join()
        mpfast.forkserver._forkserver._stop()
"""


def test_the_main_module_is_run_as_often_as_by_the_standard_library(python, tmp_path):
    source = """
import multiprocessing
print(__name__, flush=True)
def show():
    print(__name__, flush=True)
if __name__ == "__main__":
    for _ in range(2):
        p = multiprocessing.get_context("forkserver").Process(target=show)
        p.start()
        p.join()
"""
    (tmp_path / "program.py").write_text(source)
    expected = python("program.py").stdout
    (tmp_path / "program.py").write_text(source.replace("import multiprocessing", "import mpfast as multiprocessing"))
    assert python("program.py").stdout == expected


@pytest.mark.parametrize("method", ("spawn", "forkserver"))
def test_a_main_module_named_ipython_is_not_run_in_children(python, tmp_path, method):
    (tmp_path / "ipython.py").write_text("""
import sys
import mpfast
print(__name__, flush=True)
if __name__ == "__main__":
    p = mpfast.get_context(sys.argv[1]).Process(target=print, args=("child",))
    p.start()
    p.join()
""")
    # A fork server that preloads the main module is not told of the exception.
    lines = python("ipython.py", method).stdout.splitlines()
    assert (lines[0], lines[-1]) == ("__main__", "child")
    assert method == "forkserver" or len(lines) == 2


def test_another_fork_server_preloads_other_modules(python, tmp_path):
    (tmp_path / "program.py").write_text(PRELOADING % "(['this'], {}), (['wave'], {}), (['colorsys', 'not_there'], {})")
    assert python("program.py").stdout.splitlines()[-3:] == ["True"] * 3


def test_a_fork_server_that_cannot_import_is_an_error_of_start(python, tmp_path):
    (tmp_path / "broken.py").write_text("raise ValueError('broken')\n")
    (tmp_path / "program.py").write_text(PRELOADING % "(['broken'], {}), (['wave'], {})")
    done = python("program.py")
    assert done.stdout == "not started:\nTrue\n"
    assert done.stderr.count("ValueError: broken\n") == 1


@pytest.mark.skipif(sys.version_info < (3, 15), reason="on_error is new in 3.15")
def test_what_an_error_of_preloading_means(python, tmp_path):
    (tmp_path / "program.py").write_text(PRELOADING % """
        (['wave', 'not_there'], {'on_error': 'ignore'}), (['wave', 'not_there'], {'on_error': 'warn'}),
        (['wave', 'not_there'], {'on_error': 'fail'}), (['wave'], {'on_error': 'fail'})""")
    done = python("-W", "always::ImportWarning", "program.py")
    note = "Forkserver process may have crashed during module preloading. Check stderr."
    assert done.stdout == f"True\nTrue\nnot started: {note}\nTrue\n"
    assert done.stderr.count("ImportWarning: Failed to preload module 'not_there'") == 1
    assert done.stderr.count("ModuleNotFoundError: No module named 'not_there'") == 1


@pytest.mark.parametrize("method", METHODS)
def test_ctrl_c_that_is_ignored_is_so_in_children(python, tmp_path, method):
    (tmp_path / "program.py").write_text("""
import signal
import sys
import mpfast
def show():
    print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    p = mpfast.get_context(sys.argv[1]).Process(target=show)
    p.start()
    p.join()
""")
    done = python("program.py", method)
    assert (done.stdout, done.stderr) == ("True\n", "")


@pytest.mark.parametrize("method", METHODS)
def test_a_program_that_ignores_the_ends_of_children(python, tmp_path, method):
    (tmp_path / "program.py").write_text("""
import signal
import sys
import mpfast
def show():
    print(signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN)
if __name__ == "__main__":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for _ in range(2):
        p = mpfast.get_context(sys.argv[1]).Process(target=show)
        p.start()
        p.join()
""")
    done = python("program.py", method)
    assert (done.stdout, done.stderr, done.returncode) == ("True\nTrue\n", "", 0)


def test_a_server_that_the_program_starts_is_the_one_that_is_used(python, tmp_path):
    (tmp_path / "program.py").write_text("""
import os
import mpfast
import multiprocessing.forkserver as forkserver
def show(fork):
    print(os.getppid(), flush=True)
    if fork:
        p = mpfast.get_context("forkserver").Process(target=show, args=(False,))
        p.start()
        p.join()
if __name__ == "__main__":
    forkserver.ensure_running()
    print(forkserver._forkserver._forkserver_pid, flush=True)
    for method in ("forkserver", "fork"):
        p = mpfast.get_context(method).Process(target=show, args=(method == "fork",))
        p.start()
        p.join()
    print(p.exitcode)
    print(os.getpid())
""")
    done = python("program.py")
    server, parent, parent_of_forked, parent_of_grandchild, status, program = done.stdout.split()
    assert (parent, parent_of_forked, status, done.stderr) == (server, program, "0", "")
    assert parent_of_grandchild not in (server, program)


def wait_for(connection):
    connection.poll(None)


def test_a_child_of_the_fork_server_finds_what_most_need_and_can_import_the_rest(python, tmp_path):
    for library in ("bz2", "lzma", "zlib"):
        pytest.importorskip(library)
    (tmp_path / "program.py").write_text("""
import sys
import mpfast

def show():
    print({"__future__", "mpfast._crew_worker", "mpfast.queues", "mpfast.synchronize"} <= set(sys.modules))
    print({"_bz2", "_lzma", "zlib", "_zstd", "logging", "concurrent.futures"} & set(sys.modules))
    import bz2, lzma, shutil, zlib
    for library in bz2, lzma, zlib:
        print(type(sys.modules[library.__name__]) is type(sys), library.decompress(library.compress(b"text")))
    print([name for name, _ in shutil.get_archive_formats()])

if __name__ == "__main__":
    process = mpfast.get_context("forkserver").Process(target=show)
    process.start()
    process.join()
""")
    import shutil
    formats = [name for name, _ in shutil.get_archive_formats()]
    assert python("program.py").stdout.splitlines() == ["True", "set()", *["True b'text'"] * 3, str(formats)]


def test_a_fork_server_that_is_killed_is_replaced():
    from mpfast._zygote import zygote
    ctx = mpfast.get_context("forkserver")
    theirs, ours = ctx.Pipe()
    running = ctx.Process(target=wait_for, args=(theirs,))
    running.start()
    former = zygote.pid
    os.kill(former, signal.SIGKILL)
    processes = [ctx.Process(target=get_pid) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert zygote.pid != former
    assert running.is_alive()
    ours.send(None)
    running.join()
    assert running.exitcode == 255


def start_another(connection):
    process = mpfast.get_context("forkserver").Process(target=get_pid)
    process.start()
    process.join()
    connection.send((os.getppid(), process.exitcode))


@pytest.mark.parametrize("method", ("fork", "forkserver"))
def test_children_use_the_fork_server_too(method):
    from mpfast._zygote import zygote
    zygote.ensure_running()
    ctx = mpfast.get_context(method)
    theirs, ours = ctx.Pipe()
    process = ctx.Process(target=start_another, args=(theirs,))
    process.start()
    assert ours.recv() == (zygote.pid if method == "forkserver" else os.getpid(), 0)
    process.join()


def test_many_children_at_once():
    ctx = mpfast.get_context("forkserver")
    processes = [ctx.Process(target=sys.exit, args=(i,)) for i in range(20)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == list(range(20))


def test_too_many_descriptors_are_an_error():
    ctx = mpfast.get_context("forkserver")
    process = ctx.Process(target=get_pid)
    from multiprocessing.reduction import DupFd

    class Descriptors:
        def __reduce__(self):
            return list, ([DupFd(0) for _ in range(260)],)

    process._args = (Descriptors(),)
    with pytest.raises(ValueError, match="too many fds"):
        process.start()


def test_the_end_of_the_program_is_the_end_of_the_fork_server(python, tmp_path):
    (tmp_path / "program.py").write_text("""
import os
import mpfast
from mpfast._zygote import zygote
if __name__ == "__main__":
    p = mpfast.get_context("forkserver").Process(target=len, args=((),))
    p.start()
    p.join()
    print(zygote.pid)
""")
    pid = int(python("program.py").stdout)
    try:
        server = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    import select
    assert select.select([server], [], [], 30)[0]


@pytest.mark.parametrize("method", METHODS)
def test_opting_out_of_following(method, monkeypatch):
    from mpfast._child import follows
    process = mpfast.get_context(method).Process(target=get_pid, daemon=True)
    assert follows(process)
    process.outlive_parent = True
    assert not follows(process)
    del process.outlive_parent
    monkeypatch.setenv("MPFAST_ORPHANS", "keep")
    assert not follows(process)
    monkeypatch.delenv("MPFAST_ORPHANS")
    process.daemon = False
    assert not follows(process)
    process.outlive_parent = False
    assert follows(process)
