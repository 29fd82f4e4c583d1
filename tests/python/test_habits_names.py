"""Habits of real programs: names, types and modules."""
import importlib

import pytest
from conftest import METHODS

ANNOTATIONS = {
    "synchronize": "Lock RLock Semaphore BoundedSemaphore Condition Event Barrier SemLock SEM_VALUE_MAX",
    "context": "BaseContext DefaultContext ForkContext SpawnContext ForkServerContext Process ForkProcess SpawnProcess "
               "ForkServerProcess TimeoutError set_spawning_popen get_spawning_popen assert_spawning reduction",
    "sharedctypes": "Synchronized SynchronizedBase SynchronizedArray SynchronizedString",
    "managers": "SyncManager BaseManager BaseProxy NamespaceProxy DictProxy ListProxy AcquirerProxy public_methods",
    "queues": "Queue SimpleQueue JoinableQueue Empty Full",
    "connection": "Connection Listener Client wait answer_challenge deliver_challenge",
    "pool": "Pool ThreadPool AsyncResult ApplyResult MapResult IMapIterator RUN CLOSE TERMINATE mapstar starmapstar worker "
            "MaybeEncodingError ExceptionWithTraceback RemoteTraceback",
    "process": "BaseProcess ORIGINAL_DIR AuthenticationString current_process active_children parent_process",
    "util": "Finalize register_after_fork get_logger log_to_stderr _exit_function is_exiting close_all_fds_except debug",
    "reduction": "ForkingPickler DupFd register dump send_handle recv_handle",
    "resource_tracker": "_resource_tracker register unregister ensure_running getfd",
    "resource_sharer": "DupFd stop",
    "popen_spawn_posix": "Popen",
    "popen_fork": "Popen",
    "popen_forkserver": "Popen",
    "spawn": "get_preparation_data get_command_line _main prepare set_executable get_executable",
    "forkserver": "ForkServer _forkserver ensure_running set_forkserver_preload",
    "heap": "Arena Heap BufferWrapper",
    "shared_memory": "SharedMemory ShareableList",
}


@pytest.mark.parametrize("module", ANNOTATIONS)
def test_what_annotations_and_patches_import(module):
    ours = importlib.import_module(f"mpfast.{module}")
    assert [name for name in ANNOTATIONS[module].split() if not hasattr(ours, name)] == []


SHARED_OBJECTS = """
import multiprocessing
import ctypes
objects = [
    multiprocessing.Lock(), multiprocessing.RLock(), multiprocessing.Semaphore(), multiprocessing.BoundedSemaphore(),
    multiprocessing.Condition(), multiprocessing.Event(), multiprocessing.Barrier(2), multiprocessing.Queue(),
    multiprocessing.JoinableQueue(), multiprocessing.SimpleQueue(), *multiprocessing.Pipe(),
    multiprocessing.Value("i"), multiprocessing.Value(ctypes.c_double, lock=False), multiprocessing.Array("i", 3),
    multiprocessing.Array("c", 3), multiprocessing.RawArray("d", 2), multiprocessing.RawValue("b"),
]
for shared in objects:
    print(type(shared).__name__, type(shared).__module__.partition(".")[0])
"""


def test_the_module_of_shared_objects(same):
    modules = {line.split()[1] for line in same(SHARED_OBJECTS).stdout.splitlines()}
    assert modules <= {"multiprocessing", "ctypes", "__main__"}


@pytest.mark.parametrize("method", METHODS)
def test_types_that_are_tested_for(same, method):
    assert same("""
import multiprocessing
import multiprocessing.pool
import multiprocessing.connection
import multiprocessing.process
import multiprocessing.managers
import multiprocessing.context as stdlib_context
import sys
if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    with context.Pool(1) as pool:
        print(isinstance(pool, multiprocessing.pool.Pool))
    with multiprocessing.pool.ThreadPool(1) as threads:
        print(isinstance(threads, multiprocessing.pool.Pool), threads.map(abs, [-1]))
    with multiprocessing.connection.Listener() as listener:
        print(isinstance(listener, multiprocessing.connection.Listener))
    with context.Manager() as manager:
        print(isinstance(manager, multiprocessing.managers.SyncManager))
    print(issubclass(context.Process, multiprocessing.process.BaseProcess),
          issubclass(multiprocessing.Process, multiprocessing.process.BaseProcess),
          isinstance(context, stdlib_context.BaseContext), isinstance(multiprocessing.get_context(), stdlib_context.BaseContext))
""", method).stdout.split() == ["True"] * 2 + ["[1]"] + ["True"] * 6


def test_the_c_semaphore_used_directly(same):
    assert same("""
import multiprocessing
import _multiprocessing
from multiprocessing import synchronize, context, process, util

class OwnLock(synchronize.SemLock):
    def __init__(self, ctx):
        super().__init__(synchronize.SEMAPHORE, 1, 1, ctx=ctx)

lock = OwnLock(multiprocessing.get_context("spawn"))
print(lock._semlock.name.startswith(process.current_process()._config["semprefix"]), synchronize.SemLock._make_name() != lock._semlock.name)
with lock:
    print(lock._semlock._is_mine(), lock._semlock._count(), lock._semlock._get_value(), lock.acquire(False))
again = _multiprocessing.SemLock._rebuild(lock._semlock.handle, lock._semlock.kind, lock._semlock.maxvalue, lock._semlock.name)
print(again.acquire(), lock._semlock._get_value())
again.release()
lock._semlock._after_fork()
print(lock._semlock._get_value())
""").stdout == "True True\nTrue 1 0 False\nTrue 0\n1\n"


def test_a_context_of_a_programs_own(same):
    """As the loky library does: a start method of its own, added to the table of contexts."""
    assert same("""
import multiprocessing
import os
from multiprocessing import context, process, popen_fork

class OwnPopen(popen_fork.Popen):
    method = "own"
    def __init__(self, process_obj):
        context.set_spawning_popen(self)
        print("spawning", context.get_spawning_popen() is self, flush=True)
        context.set_spawning_popen(None)
        super().__init__(process_obj)

class OwnProcess(process.BaseProcess):
    _start_method = "own"
    @staticmethod
    def _Popen(process_obj):
        return OwnPopen(process_obj)

class OwnContext(context.BaseContext):
    _name = "own"
    Process = OwnProcess

context._concrete_contexts["own"] = OwnContext()

def child():
    print(multiprocessing.get_start_method(), type(multiprocessing.current_process()).__name__, flush=True)

own = multiprocessing.get_context("own")
print(own is context._concrete_contexts["own"], own.get_start_method())
worker = own.Process(target=child)
worker.start()
worker.join()
multiprocessing.set_start_method("own", force=True)
print(multiprocessing.get_context() is own, multiprocessing.get_start_method())
with multiprocessing.get_context().Lock():
    pass
""").stdout.splitlines() == ["True own", "spawning True", "own OwnProcess", "True own"]


@pytest.mark.parametrize("method", METHODS)
def test_processes_are_subclassed_per_context(same, method):
    assert same("""
import multiprocessing
import sys

class Base:
    def start(self):
        print("start", self.name, flush=True)
        super().start()
    def run(self):
        print("run", self.extra, multiprocessing.current_process() is self, flush=True)
        super().run()

classes = {}
for name in multiprocessing.get_all_start_methods():
    parent = multiprocessing.get_context(name).Process
    classes[name] = type(f"Own{name}", (Base, parent), {"extra": name, "__module__": __name__})
    globals()[f"Own{name}"] = classes[name]

class OldStyle(multiprocessing.Process):
    def __init__(self, queue):
        multiprocessing.Process.__init__(self)
        self.queue = queue
    def run(self):
        self.queue.put(self.name)

if __name__ == "__main__":
    process = classes[sys.argv[1]](target=print, args=("target",), name="named")
    process.start()
    process.join()
    print(process.exitcode, process.name)
    multiprocessing.set_start_method(sys.argv[1], force=True)
    old = OldStyle(multiprocessing.Queue())
    old.start()
    print(old.queue.get(), type(old).__name__, repr(old).startswith("<OldStyle name='OldStyle-2'"))
    old.join()
    print(old.exitcode)
""", method).stdout.splitlines() == [
        "start named", f"run {method} True", "target", "0 named", "OldStyle-2 OldStyle True", "0"]


CHILDREN = {
    "setsid": "os.setsid(); print(os.getsid(0) == os.getpid(), flush=True)",
    "dup2": """
read, write = os.pipe()
for number in (0, 1, 2):
    os.dup2(write, number)
os.write(1, b'swallowed')
""",
    "_exit": "os._exit(9)",
    "close": "print('closing', flush=True); os.closerange(3, 4096)",
    "chdir": "os.chdir('/'); print(os.getcwd(), flush=True)",
    "execv": "sys.stdout.flush(); os.execv(sys.executable, [sys.executable, '-c', 'print(\"another program\")'])",
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("act", CHILDREN)
def test_what_children_do_to_themselves(same, method, act):
    body = CHILDREN[act].strip().replace("\n", "\n    ")
    same(f"""
import multiprocessing
import os, sys

def child(lock, value):
    with lock:
        value.value += 1
    {body}
    with lock:
        value.value += 1

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    lock, value = context.Lock(), context.Value("i")
    process = context.Process(target=child, args=(lock, value))
    process.start()
    process.join()
    with lock:
        print(process.exitcode, value.value)
""", method)
