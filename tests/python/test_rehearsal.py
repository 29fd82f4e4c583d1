"""What the fork server rehearses leaves no trace in it."""
import os
import sys

import pytest

from mpfast import _native, popen_fork

pytestmark = pytest.mark.skipif(not _native.ENABLED or not hasattr(popen_fork, "watching"),
                                reason="the standard library's server forks")

REHEARSED = """
import multiprocessing
import os
import sys

from mpfast import _child, _rehearsal, _zygote

def state():
    process = multiprocessing.current_process()
    return (set(sys.modules), sys.modules["__main__"], sys.modules.get("__mp_main__"), sys.argv[:], sys.path[:], process,
            dict(vars(process)), bytes(process.authkey), multiprocessing.get_start_method(allow_none=True), os.getcwd(),
            len(os.listdir("/proc/self/fd")), dict(_child._compiled), list(_child._former_mains))

_, load = _zygote._child_of([], None)
looked_up = _zygote._looked_up()
assert load is not None and _rehearsal.is_possible()
loaded, mains = [], set()

def noted(descriptor):
    loaded.append(load(descriptor))
    mains.add(sys.modules["__main__"].__file__)
    assert not hasattr(sys.modules["__main__"], "rehearse")

_rehearsal.rehearse(noted, looked_up)  # and what that imports
before = state()
"""


def test_all_is_as_it_was(code):
    out = code(REHEARSED + """
loaded.clear()
_rehearsal.rehearse(noted, looked_up)
assert state() == before
assert mains == {_rehearsal.__file__}, mains
assert {type(process) for process in loaded} == {multiprocessing.context.ForkServerProcess}, loaded
print(len(loaded) > 1)
""")
    assert out == "True\n"


def test_a_main_module_that_was_imported_stays(code):
    code(REHEARSED + """
sys.modules["__mp_main__"] = main = type(sys)("__mp_main__")
_rehearsal.rehearse(noted, looked_up)
assert sys.modules["__mp_main__"] is main
""")


def test_a_seed_of_the_programs_own_is_not_called(code):
    out = code(REHEARSED + """
import random
asked = []
random.Random.seed = lambda self, seed=None: asked.append(seed)
_rehearsal.rehearse(noted, looked_up)
print(asked)
""")
    assert out == "[]\n"


def test_what_a_preloaded_module_has_process_objects_do_is_done_for_children_only(python, tmp_path):
    (tmp_path / "preloaded.py").write_text("""
import multiprocessing.process

done = []
multiprocessing.process.BaseProcess.__setstate__ = lambda self, state: (vars(self).update(state), done.append("made"))
""")
    (tmp_path / "program.py").write_text("""
import mpfast

def child():
    import preloaded
    print(preloaded.done)

if __name__ == "__main__":
    context = mpfast.get_context("forkserver")
    context.set_forkserver_preload(["preloaded"])
    process = context.Process(target=child)
    process.start()
    process.join()
""")
    assert python("program.py").stdout == "['made']\n"


def test_a_failure_leaves_nothing_either(code):
    out = code(REHEARSED + """
def fail(descriptor):
    load(descriptor)
    raise ValueError("in the midst")

try:
    _rehearsal.rehearse(fail, looked_up)
except ValueError as exc:
    print(exc)
assert state() == before
""")
    assert out == "in the midst\n"


def test_a_server_whose_rehearsal_fails_serves(python, tmp_path):
    (tmp_path / "program.py").write_text("""
import mpfast

def child():
    print("as ever")

if __name__ == "__main__":
    process = mpfast.get_context("forkserver").Process(target=child)
    process.start()
    process.join()
    print(process.exitcode)
""")
    (tmp_path / "sitecustomize.py").write_text("""
import os
import sys

if "mpfast._zygote" in " ".join(sys.orig_argv):
    def fail(*arguments):
        raise OSError("no memory for a rehearsal")
    os.memfd_create = fail
""")
    done = python("program.py", PYTHONPATH=os.pathsep.join([str(tmp_path), *sys.path]))
    assert (done.stdout, done.stderr) == ("as ever\n0\n", "")
