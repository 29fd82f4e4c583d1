"""``python -m mpfast`` runs a program exactly as ``python`` does."""
import os
import signal
import subprocess
import sys
import zipfile

import pytest
from conftest import METHODS, child_environment

LOOK_AROUND = """
import os, sys
kinds = {name: value if isinstance(value, (str, type(None), dict)) else type(value).__name__
         for name, value in globals().items() if name.startswith("__")}
print(sorted(kinds.items()))
print(getattr(__spec__, "name", None), sys.modules["__main__"].__dict__ is globals())
print(sys.argv, sys.path, os.getcwd())
print(sys.stdin.read())
print("a line on stderr", file=sys.stderr)
"""


@pytest.fixture
def alike(python):
    """Function (*arguments, stdin="") that runs both and fails where they differ; returns the outcome."""

    def run(*arguments, stdin="", options=(), **environment):
        plain = python(*options, *arguments, stdin=stdin, **environment)
        ours = python(*options, "-m", "mpfast", *arguments, stdin=stdin, **environment)
        assert (ours.returncode, ours.stdout, ours.stderr) == (plain.returncode, plain.stdout, plain.stderr)
        return plain

    return run


@pytest.fixture
def files(tmp_path):
    (tmp_path / "look.py").write_text(LOOK_AROUND)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "link.py").symlink_to(os.path.join("..", "look.py"))
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("import sys; print('package', sys.argv)\n")
    (tmp_path / "package" / "__main__.py").write_text(LOOK_AROUND)
    (tmp_path / "package" / "inner.py").write_text(LOOK_AROUND)
    with zipfile.ZipFile(tmp_path / "app.zip", "w") as archive:
        archive.writestr("__main__.py", LOOK_AROUND)
    (tmp_path / "doctor").write_text("print('a program called doctor')\n")
    return tmp_path


@pytest.mark.parametrize("arguments", [
    ["look.py"], ["./look.py", "-x", "--help", "a b"], ["sub/link.py"], ["sub/../look.py", ""],
    ["-m", "look", "a"], ["-m", "package"], ["-m", "package.inner", "-m"], ["-mlook", "-c"],
    ["package"], ["app.zip", "1"], ["-c", LOOK_AROUND, "-c", "x"], ["doctor", "x"],
])
def test_what_a_program_sees_of_itself(alike, files, arguments):
    assert alike(*arguments, stdin="input\nfor it").returncode == 0


def test_an_absolute_path(alike, files):
    alike(files / "look.py")


@pytest.mark.parametrize("arguments", [["-"], ["-", "x", "-y"], []])
def test_a_program_on_standard_input(alike, arguments):
    assert "['" in alike(*arguments, stdin=LOOK_AROUND).stdout


@pytest.mark.parametrize("arguments", [["missing.py"], ["-m", "missing"], ["sub"]])
def test_nothing_to_run(alike, files, arguments):
    assert alike(*arguments).returncode != 0


def test_safe_path(alike, files):
    if sys.version_info < (3, 11):
        pytest.skip("no safe path before 3.11")
    alike("look.py", options=["-P"])
    alike("-c", LOOK_AROUND, PYTHONSAFEPATH="1")


def test_compiled_file(alike, files):
    import py_compile
    py_compile.compile(files / "look.py", cfile=files / "look.pyc")
    alike("look.pyc", "x")


ENDINGS = {
    "return": "",
    "status": "import sys; sys.exit(7)",
    "true": "import sys; sys.exit(True)",
    "message": "import sys; sys.exit('a message')",
    "nothing": "import sys; sys.exit()",
    "error": "def f():\n    1 / 0\nf()",
    "chained": "try:\n    1 / 0\nexcept ZeroDivisionError as exc:\n    raise KeyError('k') from exc",
    "syntax": "def f(:\n    pass",
    "encoding": "# coding: no-such-encoding\n",
    "os exit": "import os; os._exit(3)",
    "atexit": "import atexit; atexit.register(print, 'at exit'); 1 / 0",
    "own hook": "import sys\ndef hook(kind, value, traceback):\n    while traceback:\n        print(kind.__name__, "
                "traceback.tb_frame.f_code.co_name)\n        traceback = traceback.tb_next\nsys.excepthook = hook\n1 / 0",
    "last traceback": "import atexit, sys, traceback\n"
                      "atexit.register(lambda: traceback.print_tb(sys.last_traceback))\n1 / 0",
    "interrupted": "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nimport time\ntime.sleep(60)",
    "killed": "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
    "thread": "import threading, time\nthreading.Thread(target=lambda: (time.sleep(.1), print('thread'))).start()\n1 / 0",
}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("kind", ["script", "module", "code", "stdin"])
def test_how_a_program_ends(alike, tmp_path, kind, ending):
    source = "print('begins', flush=True)\n" + ENDINGS[ending]
    (tmp_path / "program.py").write_text(source)
    if kind == "stdin":
        alike("-", stdin=source)
    else:
        alike(*{"script": ["program.py"], "module": ["-m", "program"], "code": ["-c", source]}[kind])


@pytest.mark.parametrize("kind", ["script", "module", "package"])
@pytest.mark.parametrize("method", METHODS)
def test_classes_of_main_travel(alike, tmp_path, kind, method):
    source = """
import multiprocessing, sys

class Point:
    def __init__(self, x):
        self.x = x

def double(queue, point):
    print(__name__, type(point).__module__, sys.argv, flush=True)
    queue.put(Point(point.x * 2))

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    queue = context.Queue()
    process = context.Process(target=double, args=(queue, Point(21)))
    process.start()
    point = queue.get()
    process.join()
    print(type(point) is Point, point.x, process.exitcode)
"""
    (tmp_path / "program.py").write_text(source)
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").touch()
    (tmp_path / "package" / "part.py").write_text(source)
    arguments = {"script": ["program.py"], "module": ["-m", "program"], "package": ["-m", "package.part"]}[kind]
    assert alike(*arguments, method).stdout.endswith("True 42 0\n")


@pytest.mark.parametrize("method", METHODS)
def test_a_failing_child_prints_what_it_prints(alike, tmp_path, method):
    (tmp_path / "program.py").write_text("""
import multiprocessing, sys
def fail():
    raise RuntimeError("in the child")
if __name__ == "__main__":
    process = multiprocessing.get_context(sys.argv[1]).Process(target=fail)
    process.start()
    process.join()
    sys.exit(process.exitcode + 4)
""")
    assert alike("program.py", method).returncode == 5


def test_ctrl_c_ends_it_by_the_signal(tmp_path):
    # Many short sleeps: what comes right before one is seen after it.
    source = "import time\nprint(flush=True)\nfor _ in range(600): time.sleep(0.1)"
    program = subprocess.Popen([sys.executable, "-m", "mpfast", "-c", source], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               cwd=tmp_path, env=child_environment())
    program.stdout.readline()
    program.send_signal(signal.SIGINT)
    _, stderr = program.communicate(timeout=60)
    assert program.returncode == -signal.SIGINT
    assert stderr.splitlines()[-1] == b"KeyboardInterrupt"
    assert b"mpfast" not in stderr


def test_the_program_runs_installed(python):
    done = python("-m", "mpfast", "-c", "import mpfast._install as i; print(i._installed)")
    assert done.stdout == "True\n", done.stderr


def test_help_version_and_mistakes(python):
    assert "doctor" in python("-m", "mpfast", "--help").stdout
    import mpfast
    assert python("-m", "mpfast", "--version").stdout == f"mpfast {mpfast.__version__}\n"
    for wrong in (["--nonsense"], ["-m"], ["-c"]):
        done = python("-m", "mpfast", *wrong)
        assert done.returncode == 2 and done.stderr.startswith("mpfast: ") and not done.stdout
