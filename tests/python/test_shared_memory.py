"""SharedMemory: the standard library's names, errors and memory; nothing lost to a process that merely looked."""
import abc
import errno
import gc
import inspect
import multiprocessing.shared_memory
import os
import pathlib
import pickle
import signal
import subprocess
import sys
import threading
from multiprocessing import resource_tracker

import pytest

import mpfast
from conftest import METHODS, child_environment
from mpfast.shared_memory import SharedMemory

pytestmark = pytest.mark.skipif(SharedMemory is multiprocessing.shared_memory.SharedMemory, reason="no native SharedMemory here")

DIRECTORY = pathlib.Path("/dev/shm")


@pytest.fixture
def memory():
    memory = SharedMemory(create=True, size=100)
    yield memory
    memory.close()
    try:
        memory.unlink()
    except FileNotFoundError:
        pass


def test_what_it_tells(memory):
    assert memory.name.startswith("psm_") and memory._name == "/" + memory.name
    assert memory.size == 100 == len(memory.buf)
    assert repr(memory) == f"SharedMemory({memory.name!r}, size=100)"
    assert bytes(memory.buf) == bytes(100)


def test_attached(memory):
    other = SharedMemory(memory.name, size=5000)  # the size is that of what is there
    other.buf[:3] = b"abc"
    assert bytes(memory.buf[:3]) == b"abc" and other.size == 100
    other.close()
    other.close()
    assert other.buf is None and memory.buf[0] == ord("a")


@pytest.mark.parametrize("arguments, error", [
    ({"create": True, "size": 0}, ValueError), ({"create": True, "size": -1}, ValueError), ({}, ValueError),
    ({"name": "mpfast-no-such-name"}, FileNotFoundError), ({"create": True, "size": "x"}, TypeError),
])
def test_errors(arguments, error):
    with pytest.raises(error):
        SharedMemory(**arguments)


def test_a_name_that_is_taken(memory):
    with pytest.raises(FileExistsError) as failure:
        SharedMemory(memory.name, create=True, size=1)
    assert failure.value.filename == memory._name
    assert SharedMemory(memory.name).size == 100


def test_unlinked_twice(memory):
    memory.unlink()
    with pytest.raises(FileNotFoundError):
        memory.unlink()
    with pytest.raises(FileNotFoundError):
        SharedMemory(memory.name)
    memory.buf[0] = 1  # who has it keeps it


def test_more_than_there_is():
    info = os.statvfs(DIRECTORY)
    name = f"mpfast-too-much-{os.getpid()}"
    with pytest.raises(OSError) as failure:
        SharedMemory(name, create=True, size=info.f_frsize * (info.f_blocks + 1))
    assert failure.value.errno in (errno.ENOSPC, errno.ENOMEM)
    assert not (DIRECTORY / name).exists()


def test_memory_is_there_when_it_returns(memory):
    assert (DIRECTORY / memory.name).stat().st_blocks > 0


def test_attaching_to_what_is_empty_leaves_it():
    path = DIRECTORY / f"mpfast-empty-{os.getpid()}"
    path.touch()
    try:
        with pytest.raises(ValueError, match="empty file"):
            SharedMemory(path.name)
        assert path.exists()
    finally:
        path.unlink()


def test_a_view_keeps_it_open(memory):
    view = memory.buf[10:20]
    with pytest.raises(BufferError, match="cannot close exported pointers exist"):
        memory.close()
    view[0] = 7
    view.release()
    memory.close()
    assert memory.buf is None


def test_a_descriptor_that_somebody_closed(memory):
    os.close(memory._fd)
    with pytest.raises(OSError) as failure:
        memory.close()
    assert failure.value.errno == errno.EBADF and memory.buf is None
    memory._fd = -1


def test_numpy(memory):
    numpy = pytest.importorskip("numpy")
    array = numpy.frombuffer(memory.buf, dtype="d", count=12)
    array[:] = range(12)
    other = SharedMemory(memory.name)
    assert numpy.ndarray(12, dtype="d", buffer=other.buf).sum() == 66
    other.close()
    with pytest.raises(BufferError):
        memory.close()
    assert array[11] == 11
    del array


def test_the_mapping(memory):
    mapping = memory._mmap
    assert len(mapping) == mapping.size() == 100 and not mapping.closed
    memory.close()
    assert mapping.closed and memory._mmap is None
    for use in (mapping.size, lambda: memoryview(mapping)):
        with pytest.raises(ValueError, match="closed"):
            use()
    mapping.close()


def fill(memory):
    memory.buf[:5] = b"child"
    memory.close()


@pytest.mark.parametrize("method", METHODS)
def test_sent_to_a_child(memory, method):
    process = mpfast.get_context(method).Process(target=fill, args=(memory,))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert bytes(memory.buf[:5]) == b"child"


def test_pickled(memory):
    other = pickle.loads(pickle.dumps(memory))
    assert type(other) is SharedMemory and other.name == memory.name
    other.close()


class Mine(SharedMemory):
    _flags = os.O_CREAT | os.O_RDWR


def test_a_subclass(memory):
    other = Mine(memory.name)
    assert repr(other) == f"Mine({memory.name!r}, size=100)"
    again = pickle.loads(pickle.dumps(other))
    assert type(again) is Mine
    again.close()
    other.close()


def test_the_maker_of_names_can_be_replaced(memory, monkeypatch):
    names = iter([memory._name, f"/psm_mpfast{os.getpid()}"])
    monkeypatch.setattr(multiprocessing.shared_memory, "_make_filename", lambda: next(names))
    other = SharedMemory(create=True, size=1)
    assert other.name == f"psm_mpfast{os.getpid()}"
    other.close()
    other.unlink()


@pytest.mark.parametrize("arguments", ({"create": True, "size": 1}, {}))
def test_the_opening_of_files_can_be_replaced(memory, monkeypatch, arguments):
    def refuse(name, flags, mode):
        raise PermissionError(13, "not today")

    name = memory.name
    with monkeypatch.context() as patched:
        patched.setattr("_posixshmem.shm_open", refuse)
        with pytest.raises(PermissionError, match="not today"):
            SharedMemory(**arguments or {"name": name})
    SharedMemory(name).close()


def test_the_destroying_of_files_can_be_replaced(memory, monkeypatch):
    asked = []
    with monkeypatch.context() as patched:
        patched.setattr("_posixshmem.shm_unlink", asked.append)
        memory.unlink()
    assert asked == ["/" + memory.name]
    SharedMemory(memory.name).close()


def test_attaching_with_other_flags(memory, monkeypatch):
    monkeypatch.setattr(SharedMemory, "_flags", os.O_RDONLY)
    with pytest.raises(PermissionError):
        SharedMemory(memory.name)


def test_the_functions_of_the_tracker_can_be_replaced(monkeypatch):
    said = []
    for name in ("register", "unregister"):
        monkeypatch.setattr(resource_tracker, name, lambda *args, name=name: said.append((name, *args)))
    memory = SharedMemory(create=True, size=1)
    memory.close()
    assert said == [("register", memory._name, "shared_memory")]
    memory.unlink()
    assert said[1:] == [("unregister", memory._name, "shared_memory")]


def test_arguments():
    for make in (lambda: SharedMemory(None, True, 5), lambda: SharedMemory(create=True, size=5, track=True),
                 lambda: SharedMemory(size=5, create=1, name=None, track=False)):
        memory = make()
        assert memory.size == len(memory.buf) == 5
        memory.close()
        memory.unlink()
    with pytest.raises(TypeError, match=r"__init__\(\) got an unexpected keyword argument 'bytes'"):
        SharedMemory(create=True, bytes=5)
    with pytest.raises(TypeError, match="positional"):
        SharedMemory(None, True, 5, False)
    assert str(inspect.signature(SharedMemory)) == "(name=None, create=False, size=0, *, track=True)"


@pytest.mark.parametrize("name", ["a/b", "x" * 254, "x" * 255, "x" * 300, "", "\xe9", "no such", "/"])
def test_names_that_nothing_has(name):
    class Slow(SharedMemory):
        """Attaches in Python."""

    failures = []
    for make in (SharedMemory, Slow, multiprocessing.shared_memory.SharedMemory):
        with pytest.raises((OSError, ValueError)) as failure:
            make(name)
        failures.append((type(failure.value), str(failure.value)))
    assert failures[0] == failures[1] == failures[2]


@pytest.mark.parametrize("name", ["mpfast-test-" + "x" * 200, "/mpfast-test", "mpfast-test a", "mpfast-test:a"])
def test_names_of_all_kinds(name):
    made = SharedMemory(name, create=True, size=3)
    try:
        made.buf[0] = 5
        attached = SharedMemory(name)
        assert attached.buf[0] == 5 and attached._name == made._name and attached.name == made.name and attached.size == 3
        attached.close()
        assert vars(attached)["_fd"] == -1 and attached.buf is None
    finally:
        made.close()
        made.unlink()


def test_more_than_a_size_can_be():
    with pytest.raises((OverflowError, OSError, ValueError)):
        SharedMemory(create=True, size=2 ** 70)


def test_the_mode_of_the_class(monkeypatch):
    monkeypatch.setattr(SharedMemory, "_mode", 0o640)
    memory = SharedMemory(create=True, size=1)
    assert (DIRECTORY / memory.name).stat().st_mode & 0o777 == 0o640
    memory.close()
    memory.unlink()


def test_what_was_not_made():
    memory = SharedMemory.__new__(SharedMemory)
    assert (memory.buf, memory._fd, memory._name) == (None, -1, None)
    memory.close()
    memory.unlink()


def test_made_twice_by_one_object():
    memory = SharedMemory(create=True, size=1)
    former, descriptor = memory._name, memory._fd
    memory.__init__(create=True, size=2)
    assert memory.size == 2 and memory._name != former
    memory.close()
    memory.unlink()
    os.close(descriptor)
    SharedMemory(former[1:]).unlink()


class Counted(SharedMemory):
    closed = 0

    def close(self):
        Counted.closed += 1
        super().close()


def test_dropped():
    memory = Counted(create=True, size=1)
    descriptor = memory._fd
    memory.unlink()
    del memory
    gc.collect()
    assert Counted.closed == 1
    with pytest.raises(OSError):
        os.fstat(descriptor)


def test_dropped_while_somebody_has_a_view(monkeypatch):
    said = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: said.append(unraisable.exc_type))
    memory = SharedMemory(create=True, size=1)
    descriptor, view = memory._fd, memoryview(memory.buf)
    kept = memoryview(memory._mmap)
    memory.unlink()
    del memory
    gc.collect()
    assert said == [BufferError]
    view.release()
    kept[0] = 1
    kept.release()
    os.close(descriptor)


class Full(SharedMemory):
    """A subclass that overrides whatever can be."""

    _fd = -1
    _buf = _mmap = None

    def __init__(self, size):
        self.seen = []
        super().__init__(create=True, size=size)

    def _begin(self):
        raise AssertionError("is the subclass's own")

    _open = _close = _unlink = _begin

    def __setattr__(self, name, value):
        if name != "seen":
            self.seen.append(name)
        super().__setattr__(name, value)

    def close(self):
        self.seen.append("close")
        super().close()


def test_a_subclass_that_overrides_what_it_can():
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        memory = Full(10)
        descriptor, seen = memory._fd, memory.seen
        assert memory._name in vars(memory).values() and {"_fd", "_name", "_mmap", "_buf", "_size"} <= set(seen)
        seen.clear()
        memory.close()
        assert {"_buf", "_mmap", "_fd", "close"} <= set(seen) and memory.buf is None and memory._fd == -1
        with pytest.raises(OSError):
            os.fstat(descriptor)
        memory.unlink()
        seen.clear()
        del memory
        assert seen == ["close"]
    assert len(os.listdir("/proc/self/fd")) == before


class Unfinished(SharedMemory):
    def __init__(self, closed):
        self.closed = closed

    def close(self):
        self.closed.append(1)


class Both(SharedMemory, dict):
    pass


class Abstract(SharedMemory, abc.ABC):
    @abc.abstractmethod
    def method(self):
        """To be overridden."""


def test_odd_subclasses():
    closed = []
    Unfinished(closed)
    assert closed == [1]
    both = Both(create=True, size=5)
    both["a"] = 1
    both.close()
    both.unlink()
    with pytest.raises(TypeError, match="abstract"):
        Abstract(create=True, size=5)


def test_attributes(monkeypatch):
    memory = SharedMemory(create=True, size=5)
    assert vars(memory)["_size"] == 5 and (SharedMemory._fd, SharedMemory._name, SharedMemory._buf) == (-1, None, None)
    with monkeypatch.context() as patched:
        patched.setattr(memory, "_fd", 12345)
    memory.close()
    assert (memory._fd, memory._mmap, memory._buf) == (-1, None, None)
    memory.unlink()
    del memory._buf, memory._name
    assert memory.buf is None
    memory.unlink()


def test_a_cycle():
    memory = SharedMemory(create=True, size=5)
    memory.unlink()
    descriptor, memory._name = memory._fd, memory
    del memory
    gc.collect()
    with pytest.raises(OSError):
        os.fstat(descriptor)


@pytest.mark.parametrize("state", ("new", "not closed because of a view"))
def test_closed_by_several_threads_at_once(state):
    failed = []
    for _ in range(50):
        memory = SharedMemory(create=True, size=1)
        if state != "new":
            with memoryview(memory._mmap), pytest.raises(BufferError):
                memory.close()
        barrier = threading.Barrier(3)

        def close():
            barrier.wait()
            try:
                memory.close()
            except (OSError, BufferError) as failure:  # a descriptor that somebody else has closed, a view he has not released
                failed.append(failure)

        threads = [threading.Thread(target=close) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert memory.buf is None and memory._mmap is None and memory._fd == -1 and not failed
        memory.unlink()


# Other processes: plain ones have nothing but the standard library.

def run(source, *arguments, plain=False):
    module = "multiprocessing" if plain else "mpfast"
    return subprocess.run([sys.executable, "-c", f"import {module} as mp, sys, os, signal\n"
                           f"from {module}.shared_memory import SharedMemory, ShareableList\n{source}", *arguments],
                          capture_output=True, text=True, timeout=60, env=child_environment())


def test_with_the_standard_library(memory):
    done = run("m = SharedMemory(sys.argv[1], **({'track': False} if sys.version_info >= (3, 13) else {}))\n"
               "m.buf[:3] = b'std'; print(m.size)\nm.close()\n"
               "from multiprocessing import resource_tracker as t\n"
               "sys.version_info >= (3, 13) or t.unregister(m._name, 'shared_memory')", memory.name, plain=True)
    assert (done.stdout, done.stderr) == ("100\n", "")
    assert bytes(memory.buf[:3]) == b"std"


def test_made_by_the_standard_library():
    child = subprocess.Popen([sys.executable, "-c", """
from multiprocessing.shared_memory import SharedMemory
m = SharedMemory(create=True, size=10)
print(m.name, flush=True); input()
print(bytes(m.buf[:4])); m.close(); m.unlink()
"""], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    memory = SharedMemory(child.stdout.readline().strip())
    memory.buf[:4] = b"ours"
    memory.close()
    out, err = child.communicate("\n", timeout=60)
    assert (out, err) == ("b'ours'\n", "")


ATTACH = "m = SharedMemory(sys.argv[1]); m.buf[0] = 9; m.close()\n"


def test_who_attaches_does_not_take_it_away(memory):
    done = run(ATTACH, memory.name)
    assert (done.returncode, done.stderr) == (0, "")
    assert memory.buf[0] == 9
    SharedMemory(memory.name).close()


def test_who_attaches_may_forget_it(memory):
    # What programs do to have the standard library not unlink it.
    done = run(ATTACH + "from multiprocessing import resource_tracker\n"
               "resource_tracker.unregister(m._name, 'shared_memory')", memory.name)
    assert (done.returncode, done.stderr) == (0, "")
    SharedMemory(memory.name).close()


def test_no_false_leak_when_a_stranger_unlinks():
    creator = subprocess.Popen([sys.executable, "-c", """
from mpfast.shared_memory import SharedMemory
m = SharedMemory(create=True, size=10)
print(m.name, flush=True); input(); m.close()
"""], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=child_environment())
    done = run("m = SharedMemory(sys.argv[1]); m.close(); m.unlink()", creator.stdout.readline().strip())
    assert (done.returncode, done.stderr) == (0, "")
    assert creator.communicate("\n", timeout=60) == ("", "")


def test_no_false_leak_when_a_child_unlinks():
    done = run("""
def unlink(name):
    m = SharedMemory(name); m.close(); m.unlink()
m = SharedMemory(create=True, size=10)
p = mp.get_context("fork").Process(target=unlink, args=(m.name,))
p.start(); p.join(); m.close()
""")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("end", ["pass", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_what_is_left_is_unlinked(end):
    done = run(f"m = SharedMemory(create=True, size=10); print(m.name, flush=True)\n{end}")
    assert "leaked shared_memory objects" in done.stderr
    assert not (DIRECTORY / done.stdout.strip()).exists()
    assert done.returncode in (0, -signal.SIGKILL)


def test_what_a_killed_family_leaves_is_unlinked():
    done = run("""
def make():
    m = SharedMemory(create=True, size=10); print(m.name, flush=True); made.set(); made.wait(); signal.pause()
context = mp.get_context("fork")
m = SharedMemory(create=True, size=10); print(m.name, flush=True)
made = context.Event()
p = context.Process(target=make); p.start(); made.wait()
p.kill(); os.kill(os.getpid(), signal.SIGKILL)
""")
    assert "2 leaked shared_memory objects" in done.stderr
    names = done.stdout.split()
    assert len(names) == 2 and not any((DIRECTORY / name).exists() for name in names)


@pytest.mark.parametrize("source", [
    "made = [SharedMemory('mpfast-' + 'x' * 100, create=True, size=1)]",
    "made = []\nfor _ in range(1030):\n    made.append(SharedMemory(create=True, size=1)); made[-1].close()",
], ids=["long name", "many"])
def test_what_has_no_place_in_the_table_is_unlinked(source):
    done = run(f"{source}\nfor m in made: print(m.name)\nsys.stdout.flush()\nos.kill(os.getpid(), signal.SIGKILL)")
    names = done.stdout.split()
    assert f"{len(names)} leaked shared_memory objects" in done.stderr
    assert not any((DIRECTORY / name).exists() for name in names)


UNREGISTER = "from multiprocessing import resource_tracker; resource_tracker.unregister({name!r}, 'shared_memory')"


@pytest.mark.parametrize("who", ["itself", *METHODS])
def test_memory_that_anybody_unregistered_is_left(who):
    done = run(f"""
m = SharedMemory(create=True, size=10); print(m.name)
source = {UNREGISTER!r}.format(name=m._name)
if {who!r} == "itself":
    exec(source)
else:
    p = mp.get_context({who!r}).Process(target=exec, args=(source,)); p.start(); p.join()
""")
    assert (done.returncode, done.stderr) == (0, "")
    memory = SharedMemory(done.stdout.strip())
    memory.close()
    memory.unlink()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("track", [True, False])
def test_no_false_leak_when_several_track(method, track):
    done = run(f"""
m = SharedMemory(create=True, size=10)
source = f"from mpfast.shared_memory import SharedMemory; SharedMemory({{m.name!r}}, track={track}).close()"
p = mp.get_context({method!r}).Process(target=exec, args=(source,)); p.start(); p.join()
m.close(); m.unlink()
""")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("method", METHODS)
def test_no_false_leak_of_what_a_child_made(method):
    done = run(f"""
source = "from mpfast.shared_memory import SharedMemory; m = SharedMemory(create=True, size=5); m.close(); q.put(m.name)"
q = mp.get_context({method!r}).SimpleQueue()
p = mp.get_context({method!r}).Process(target=exec, args=(source, {{"q": q}})); p.start()
m = SharedMemory(q.get()); p.join(); m.close(); m.unlink()
""")
    assert (done.returncode, done.stderr) == (0, "")


def test_functions_of_the_tracker_that_were_replaced_at_first():
    done = subprocess.run([sys.executable, "-c", """
from multiprocessing import resource_tracker
said = []
resource_tracker.register = resource_tracker.unregister = lambda *args: said.append(args)
from mpfast.shared_memory import SharedMemory
m = SharedMemory(create=True, size=4); m.close(); m.unlink()
print(said == [(m._name, "shared_memory")] * 2)
"""], capture_output=True, text=True, timeout=60, env=child_environment())
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_no_warnings():
    source = "from mpfast.shared_memory import SharedMemory; m = SharedMemory(create=True, size=4); m.close(); m.unlink()"
    done = subprocess.run([sys.executable, "-W", "error", "-c", source], capture_output=True, text=True, timeout=60,
                          env=child_environment())
    assert (done.returncode, done.stderr) == (0, "")


def test_another_tracker_takes_over_from_a_killed_one():
    done = run("""
import select, warnings
from multiprocessing import resource_tracker
m = SharedMemory(create=True, size=10)
pid = resource_tracker._resource_tracker._pid
fd = os.pidfd_open(pid); os.kill(pid, signal.SIGKILL); select.select([fd], [], [])
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    other = SharedMemory(create=True, size=10)
print(other.name, len(said)); m.close(); m.unlink()
""")
    name, said = done.stdout.split()
    assert said == "1" and "1 leaked shared_memory objects" in done.stderr
    assert not (DIRECTORY / name).exists()


def test_the_tracker_is_not_woken_by_memory_that_comes_and_goes():
    done = run("""
import fcntl, struct, termios
from multiprocessing import resource_tracker
def waiting():
    return struct.unpack("i", fcntl.ioctl(tracker._fd, termios.FIONREAD, bytes(4)))[0]
def use():
    m = SharedMemory(create=True, size=10); m.close(); m.unlink()
use()
tracker = resource_tracker._resource_tracker
os.kill(tracker._pid, signal.SIGSTOP); os.waitpid(tracker._pid, os.WUNTRACED)
before = waiting()
for _ in range(5):
    use()
p = mp.get_context("fork").Process(target=use); p.start(); p.join()
print(waiting() - before, p.exitcode)
os.kill(tracker._pid, signal.SIGCONT)
""")
    assert (done.stdout, done.stderr) == ("0 0\n", "")


def test_untracked_memory_is_left():
    done = run("m = SharedMemory(create=True, size=10, track=False); print(m.name)")
    assert (done.returncode, done.stderr) == (0, "")
    memory = SharedMemory(done.stdout.strip())
    memory.close()
    memory.unlink()


def test_tracking_on_demand(memory):
    done = run("m = SharedMemory(sys.argv[1], track=True); m.close()", memory.name)
    assert "leaked shared_memory objects" in done.stderr
    with pytest.raises(FileNotFoundError):
        SharedMemory(memory.name)


AUDITED = """
import os, sys
from {package}.shared_memory import SharedMemory, ShareableList
told, refused = [], None
def hook(event, arguments):
    if event.startswith(("os.truncate", "mmap.")):
        told.append((event, *arguments[1:]))  # descriptors differ
        if event == refused:
            raise OSError("refused")
sys.addaudithook(hook)
memories = [SharedMemory(create=True, size=5000), SharedMemory(f"mpfast-{{os.getpid()}}", create=True, size=1)]
memories.append(SharedMemory(memories[0].name))
for memory in memories:
    memory.close()
for memory in memories[:2]:
    memory.unlink()
values = ShareableList([1, "a"])
values.shm.close()
values.shm.unlink()
for refused in ("os.truncate", "mmap.__new__"):
    for name in (None, f"mpfast-{{os.getpid()}}"):
        try:
            SharedMemory(name, create=True, size=10)
        except OSError as error:
            told.append((str(error), name is None or os.path.exists("/dev/shm/" + name)))
print(told)
"""


def test_audit_events():
    outputs = [subprocess.run([sys.executable, "-c", AUDITED.format(package=package)], capture_output=True, text=True, timeout=60,
                              check=True).stdout for package in ("multiprocessing", "mpfast")]
    assert outputs[0] == outputs[1] and "('refused', False)" in outputs[1]
