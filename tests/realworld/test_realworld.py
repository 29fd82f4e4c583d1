"""Programs and libraries from PyPI, unchanged, through ``python -m mpfast``: the same output as on the stdlib.

``pip install '.[realworld]'`` installs the ones that are small; the tests of the others run where these are installed.
"""
import importlib.util
import os
import pathlib
import re
import signal
import subprocess
import sys
import sysconfig

import pytest

import mpfast

HERE = pathlib.Path(__file__).resolve().parent
LIBRARY = pathlib.Path(sysconfig.get_path("stdlib"))
PACKAGE_ROOT = pathlib.Path(mpfast.__file__).resolve().parent.parent
SECONDS = 120


def needs(*modules):
    missing = [m for m in modules if importlib.util.find_spec(m) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def run(arguments, directory, native):
    """(exit status, stdout, stderr) of an interpreter that is given these arguments, under mpfast or not."""
    directory.mkdir(exist_ok=True)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MPFAST_")}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(PACKAGE_ROOT), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, *(["-m", "mpfast"] if native else []), *map(str, arguments)]
    # A session of its own: when it hangs, what it started is ended with it.
    child = subprocess.Popen(command, cwd=directory, env=environment, stdin=subprocess.DEVNULL, text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    try:
        out, err = child.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        out, err = child.communicate()
        return "hangs", out, err
    return child.returncode, out, err


def run_stdlib(arguments, directory):
    """run() on the standard library, whose pool hangs now and then: again, then."""
    for attempt in range(3):
        outcome = run(arguments, directory.with_name(f"{directory.name}-{attempt}"), native=False)
        if outcome[0] != "hangs":
            break
    return outcome


@pytest.fixture
def same(tmp_path):
    """Function (arguments) that runs on both sides, fails where they differ, and returns the standard output."""

    def check(arguments, status=0):
        stdlib = run_stdlib(arguments, tmp_path / "stdlib")
        assert stdlib[0] == status, stdlib
        assert run(arguments, tmp_path / "mpfast", native=True) == stdlib
        return stdlib[1]

    return check


@needs("flake8")
def test_flake8_over_a_large_tree(same):
    packages = [LIBRARY / name for name in ("asyncio", "collections", "concurrent", "ctypes", "email", "html", "http",
                                            "importlib", "json", "logging", "multiprocessing", "unittest", "urllib",
                                            "wsgiref", "xml")]
    out = same(["-m", "flake8", "-j2", "--isolated", "--statistics", "--exclude=test,tests,*/test/*", *packages],
               status=1)
    assert len(out.splitlines()) > 1000


@needs("pylint")
def test_pylint(same, tmp_path):
    out = same(["-m", "pylint", "-j2", "--persistent=n", "--score=n", "--disable=cyclic-import,duplicate-code",
                "--exit-zero", "--rcfile=/dev/null", LIBRARY / "json", LIBRARY / "wsgiref"])
    assert len(out.splitlines()) > 20


@needs("sphinx")
def test_sphinx_build(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "conf.py").write_text("project = 'many pages'\nextensions = []\nhtml_last_updated_fmt = None\n")
    pages = [f"page{n}" for n in range(30)]
    (source / "index.rst").write_text("Index\n=====\n\n.. toctree::\n\n" + "".join(f"   {p}\n" for p in pages))
    for number, page in enumerate(pages):
        (source / f"{page}.rst").write_text(f"Page {number}\n=======\n\n.. _label{number}:\n\nPart\n----\n\n"
                                            f"See :ref:`label{(number * 7) % 30}` and *text* number {number}.\n")
    trees = []
    for native in (False, True):
        out = tmp_path / ("mpfast-html" if native else "stdlib-html")
        status, stdout, stderr = run(["-m", "sphinx", "-q", "-j2", "-b", "html", source, out], tmp_path / "cwd", native)
        assert (status, stdout, stderr) == (0, "", "")
        trees.append({p.relative_to(out): p.read_text() for p in sorted(out.rglob("*.html"))})
    assert trees[0] == trees[1]
    assert len(trees[0]) > 30


@needs("joblib")
def test_joblib_on_its_multiprocessing_backend(same):
    assert "ZeroDivisionError" in same([HERE / "programs" / "joblib_multiprocessing.py"])


@needs("tqdm")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_tqdm_process_map(same, method):
    assert same([HERE / "programs" / "tqdm_process_map.py", method]).startswith("8955050\n")


@needs("dask")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_dask(same, method):
    out = same([HERE / "programs" / "dask_processes.py", method])
    assert "processes 328350\n" in out and "executor 328350\n" in out
    assert "processes ZeroDivisionError" in out and "executor ZeroDivisionError('division by zero')\n" in out


@needs("numpy")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_numpy_on_shared_arrays(same, method):
    assert same([HERE / "programs" / "numpy_shared.py", method]).startswith("3996000.0")


@needs("sklearn")
def test_scikit_learn_cross_validation(same):
    assert re.match(r"\[0\.\d+", same([HERE / "programs" / "sklearn_cross_val.py"]))


@needs("torch")
def test_torch_data_loader(same):
    assert same([HERE / "programs" / "torch_loader.py"]).endswith("499500\n0\n")


@needs("gymnasium")
def test_gymnasium_vector_environment(same):
    same([HERE / "programs" / "gymnasium_async.py"])
