"""install() and uninstall(): in this process, in modules imported before, and in children."""
import pytest
from conftest import METHODS

# Stands for a native class until uninstall; what is tested here does not depend on which classes are native.
FAKES = """
import sys, types
if sys.modules.get("mpfast._core", 0) == 0:
    sys.modules["mpfast._core"] = types.ModuleType("mpfast._core")
import mpfast, mpfast.synchronize, mpfast.pool, mpfast.concurrent.futures.process
from mpfast._install import original
OldLock = original("multiprocessing.synchronize", "Lock")
OldPool = original("multiprocessing.pool", "Pool")
OldExecutor = original("concurrent.futures.process", "ProcessPoolExecutor")
class Lock(OldLock): pass
class Pool(OldPool): pass
class Executor(OldExecutor): pass
vars(mpfast.synchronize)["Lock"] = Lock
vars(mpfast.pool)["Pool"] = Pool
vars(mpfast.concurrent.futures.process)["ProcessPoolExecutor"] = Executor
"""


def test_every_way_to_a_class_leads_to_the_replacement(code):
    assert code(FAKES + """
mpfast.install()
import multiprocessing, multiprocessing.synchronize, concurrent.futures
from multiprocessing import Pool as make_pool, Lock as make_lock
from multiprocessing.synchronize import Lock as imported
from concurrent.futures import ProcessPoolExecutor
print(imported is Lock, multiprocessing.synchronize.Lock is Lock, ProcessPoolExecutor is Executor,
      concurrent.futures.ProcessPoolExecutor is Executor)
print(type(make_lock()) is Lock, type(multiprocessing.get_context("spawn").Lock()) is Lock, type(mpfast.Lock()) is Lock)
multiprocessing.set_start_method("fork", force=True)
with make_pool(1) as pool:
    print(type(pool) is Pool)
""") == "True True True True\nTrue True True\nTrue\n"


def test_modules_imported_before_are_rebound_and_restored(code):
    assert code("""
import sys, types
early = types.ModuleType("early")
sys.modules["early"] = early
exec('''
from multiprocessing.pool import Pool
from multiprocessing.synchronize import Lock as Renamed
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import Lock as make_lock
''', vars(early))
import concurrent.futures
before = dict(vars(early))
""" + FAKES + """
mpfast.install()
mpfast.install()
print(early.Pool is Pool, early.Renamed is Lock, early.ProcessPoolExecutor is Executor, type(early.make_lock()) is Lock,
      concurrent.futures.ProcessPoolExecutor is Executor)
mpfast.uninstall()
mpfast.uninstall()
import multiprocessing.pool, multiprocessing.synchronize
print({name: value for name, value in vars(early).items() if before[name] is not value and name != "__builtins__"},
      multiprocessing.pool.Pool is OldPool, multiprocessing.synchronize.Lock is OldLock,
      concurrent.futures.ProcessPoolExecutor is OldExecutor, type(early.make_lock()) is OldLock)
print(any("mpfast" in type(finder).__module__ for finder in sys.meta_path))
""") == "True True True True True\n{} True True True True\nFalse\n"


def test_install_again_after_uninstall(code):
    assert code(FAKES + """
import multiprocessing
for _ in range(3):
    mpfast.install()
    print(type(multiprocessing.Lock()) is Lock)
    mpfast.uninstall()
    print(type(multiprocessing.Lock()) is OldLock)
""") == "True\nTrue\n" * 3


def test_names_replaced_by_others_after_us_stay(code):
    assert code(FAKES + """
mpfast.install()
import multiprocessing.synchronize, multiprocessing.spawn
multiprocessing.synchronize.Lock = None
ours = multiprocessing.spawn.get_preparation_data
multiprocessing.spawn.get_preparation_data = wrapper = lambda name: {**ours(name), "wrapped": True}
mpfast.uninstall()
print(multiprocessing.synchronize.Lock, multiprocessing.spawn.get_preparation_data is wrapper)
data = multiprocessing.spawn.get_preparation_data("x")
print(data["wrapped"], data["name"], "mpfast" in data)
""") == "None True\nTrue x False\n"


def test_loaded_modules_show_their_real_loader(code):
    assert code(FAKES + """
mpfast.install()
import inspect, multiprocessing.queues as queues
print(type(queues.__loader__).__name__, type(queues.__spec__.loader).__name__, len(inspect.getsource(queues)) > 1000)
""") == "SourceFileLoader SourceFileLoader True\n"


IN_CHILDREN = """
import multiprocessing
import sys

def level(depth):
    import multiprocessing.spawn
    print(depth, "mpfast" in sys.modules, multiprocessing.spawn.get_preparation_data.__module__, flush=True)
    if depth < 3:
        process = multiprocessing.get_context(sys.argv[1]).Process(target=level, args=(depth + 1,))
        process.start()
        process.join()
        sys.exit(process.exitcode)

if __name__ == "__main__":
    if sys.argv[2] == "late":
        # The fork server runs before mpfast is there.
        early = multiprocessing.get_context(sys.argv[1]).Process(target=print, args=("early",))
        early.start()
        early.join()
    import mpfast
    assert mpfast.install()
    level(0)
"""


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("when", ["first", "late"])
def test_children_and_their_children_are_installed(python, tmp_path, method, when):
    (tmp_path / "program.py").write_text(IN_CHILDREN)
    done = python("program.py", method, when)
    assert done.returncode == 0, done.stderr
    expected = [f"{depth} True mpfast._install" for depth in range(4)]
    assert done.stdout.splitlines() == ["early"] * (when == "late") + expected


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_children_find_the_package_where_the_parent_found_it(python, tmp_path, method):
    """Only the parent's sys.path has it: the child must have it before it re-imports the main module."""
    from conftest import ROOT
    (tmp_path / "program.py").write_text(f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import mpfast
import multiprocessing
print(__name__, mpfast.install(), flush=True)

def target():
    print("child", flush=True)

if __name__ == "__main__":
    process = multiprocessing.get_context({method!r}).Process(target=target)
    process.start()
    process.join()
    print(process.exitcode)
""")
    done = python("program.py", PYTHONPATH="")
    assert done.stdout.splitlines() == ["__main__ True", "__mp_main__ True", "child", "0"], done.stderr


def test_uninstalled_parents_have_plain_children(python, tmp_path):
    (tmp_path / "program.py").write_text("""
import multiprocessing, sys
def target():
    print("mpfast" in sys.modules)
if __name__ == "__main__":
    import mpfast
    mpfast.install()
    mpfast.uninstall()
    process = multiprocessing.get_context("spawn").Process(target=target)
    process.start()
    process.join()
""")
    done = python("program.py")
    assert done.stdout == "False\n", done.stderr


def test_the_replacements_named_in_the_table_exist_in_the_stdlib(code):
    assert code("""
import importlib
from mpfast._install import REPLACED
newer_or_other_platform = set()
for module, names in REPLACED.items():
    stdlib = importlib.import_module(module)
    ours = importlib.import_module("mpfast." + module.removeprefix("multiprocessing."))
    for name in names:
        assert getattr(ours, name).__name__.lstrip("_") or name
        assert hasattr(stdlib, name), (module, name)
""") == ""
