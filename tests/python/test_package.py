"""The package as installed: with its native part, without it, and switched off."""
import importlib.util
import os
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT, child_environment

IDENTITIES = """
import multiprocessing, multiprocessing.synchronize, multiprocessing.pool, multiprocessing.queues
import concurrent.futures.process
import mpfast, mpfast.synchronize, mpfast.pool, mpfast.queues, mpfast.concurrent.futures, mpfast.context
print(mpfast.get_context("spawn") is multiprocessing.get_context("spawn"),
      mpfast.Process is multiprocessing.Process,
      mpfast.Lock == multiprocessing.Lock,
      mpfast.synchronize.Lock is multiprocessing.synchronize.Lock,
      mpfast.pool.Pool is multiprocessing.pool.Pool,
      mpfast.queues.Queue is multiprocessing.queues.Queue,
      mpfast.context.BaseContext is multiprocessing.context.BaseContext,
      mpfast.concurrent.futures.ProcessPoolExecutor is concurrent.futures.process.ProcessPoolExecutor,
      mpfast.install())
"""
ALL_STDLIB = "True True True True True True True True False\n"

WITHOUT_EXTENSION = "import sys; sys.modules['mpfast._core'] = None\n"


def test_without_extension_the_stdlib_is_handed_out(code):
    assert code(WITHOUT_EXTENSION + IDENTITIES) == ALL_STDLIB


def test_disabled_the_stdlib_is_handed_out(code):
    assert code(IDENTITIES, MPFAST_DISABLE="1") == ALL_STDLIB


def test_a_kernel_that_withholds_what_is_needed(code):
    fake_core = """
import sys, types
core = types.ModuleType("mpfast._core")
core.probe = lambda: {"memfd": (True, "Operation not permitted"), "pidfd": (False, "")}
sys.modules["mpfast._core"] = core
"""
    assert code(fake_core + IDENTITIES) == ALL_STDLIB
    said = code(fake_core + "import mpfast; print(mpfast.doctor())")
    assert "memfd does not work here: Operation not permitted" in said


def test_without_extension_programs_run(python, tmp_path):
    (tmp_path / "program.py").write_text("""
import mpfast as multiprocessing
def square(x): return x * x
if __name__ == "__main__":
    for method in multiprocessing.get_all_start_methods():
        with multiprocessing.get_context(method).Pool(1) as pool:
            print(pool.map(square, range(4)))
""")
    done = python("program.py", MPFAST_DISABLE="1")
    assert done.stdout.splitlines() == ["[0, 1, 4, 9]"] * 3, done.stderr


def test_disabled_command_line_runs_the_program_on_the_stdlib(python):
    done = python("-m", "mpfast", "-c", "import multiprocessing.synchronize as s; print(s.Lock.__init__.__module__)",
                  MPFAST_DISABLE="1")
    assert done.stdout == "multiprocessing.synchronize\n", done.stderr


def source_that_cannot_be_built(tmp_path):
    """A copy of the project, the extension of which no compiler takes."""
    pytest.importorskip("setuptools")
    source = tmp_path / "source"
    source.mkdir()
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "mpfast", source / "mpfast",
                    ignore=shutil.ignore_patterns("*.so", "__pycache__", "_build_failure.txt"))
    (source / "src").mkdir()
    (source / "src" / "module.c").write_text("#error this machine has no headers\n")
    return source


def test_modules_are_compiled_where_they_are_installed_in_place(tmp_path):
    source = source_that_cannot_be_built(tmp_path)
    subprocess.run([sys.executable, "-B", "setup.py", "-q", "build_ext", "--inplace"], cwd=source, check=True,
                   capture_output=True, timeout=120)
    assert "CompileError" in (source / "mpfast" / "_build_failure.txt").read_text()
    for module in source.glob("mpfast/**/*.py"):
        assert os.path.exists(importlib.util.cache_from_source(module)), module


def test_a_failed_build_still_installs_and_says_why(tmp_path):
    source = source_that_cannot_be_built(tmp_path)
    target = tmp_path / "target"
    subprocess.run([sys.executable, "setup.py", "-q", "build", "--build-lib", target], cwd=source, check=True,
                   capture_output=True, timeout=120)
    # -S: what makes an installation in place importable must not lend its extension
    done = subprocess.run([sys.executable, "-S", "-c", "import mpfast; print(mpfast.__file__); print(mpfast.doctor())"],
                          cwd=tmp_path, env=child_environment(PYTHONPATH=str(target)), capture_output=True, text=True,
                          timeout=60)
    assert done.returncode == 0, done.stderr
    assert str(target) in done.stdout
    assert "the extension was not built: CompileError" in done.stdout


def test_importing_costs_no_more_modules_than_the_stdlib_with_what_it_replaces(code):
    ours = code("import mpfast, sys; print(*sys.modules)").split()
    stdlib = code("""
import sys
import multiprocessing.synchronize, multiprocessing.queues, multiprocessing.connection, multiprocessing.sharedctypes
import multiprocessing.shared_memory, multiprocessing.managers, multiprocessing.pool, multiprocessing.heap
print(*sys.modules)
""").split()
    extra = {name for name in set(ours) - set(stdlib) if not name.startswith("mpfast")}
    assert not extra
    assert "multiprocessing.managers" not in ours and "ctypes" not in ours
