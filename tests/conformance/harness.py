"""A throw-away virtual environment in which every interpreter that a test starts can be put under mpfast.

CPython's tests start programs of their own (``python -c``, scripts, ``-I``), besides the children of multiprocessing.
What reaches them all, isolated mode included, is a .pth file in site-packages.  It calls ``mpfast.install()`` where
MPFAST_CONFORMANCE=1 stands in the environment, except in the processes that multiprocessing itself starts: these have
to come under mpfast by what ``install()`` carries over, which is part of what is tested.  The standard library's side
of the comparison runs in the same environment, without the variable.
"""
import os
import shutil
import signal
import site
import subprocess
import sys
import sysconfig

STACKS_SIGNAL = signal.SIGRTMAX - 1
TESTS_DIR = os.path.dirname(os.path.abspath(__file__))

STARTUP = '''\
"""Runs at the start of every interpreter of the conformance tests."""
import os
import site
import sys

for path in {paths!r}:
    site.addsitedir(path)

if os.path.isdir({borrowed!r}):
    path_finder = next(f for f in sys.meta_path if getattr(f, "__name__", "") == "PathFinder")

    class Borrowed:
        """Finds what this version's ``test`` package lacks among the files of another version."""

        @staticmethod
        def find_spec(name, path=None, target=None):
            if name.startswith("test.") and name.count(".") == 1:
                return path_finder.find_spec(name, [{borrowed!r}])

    sys.meta_path.append(Borrowed)

OWN = ("from multiprocessing.", "from mpfast.")
started_by_multiprocessing = "--multiprocessing-fork" in sys.orig_argv or any(a.startswith(OWN) for a in sys.orig_argv)

if os.environ.get("MPFAST_CONFORMANCE_SLICE"):
    import faulthandler
    try:
        faulthandler.register({stacks_signal}, file=2, all_threads=True)
    except Exception:
        pass
if os.environ.get("MPFAST_CONFORMANCE") == "1" and not started_by_multiprocessing:
    import mpfast
    mpfast.install()
'''


def package_paths():
    """The directories from which the running interpreter gets its installed packages, and mpfast."""
    paths = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *site.getsitepackages()]
    try:
        import mpfast
        paths.append(os.path.dirname(os.path.dirname(os.path.abspath(mpfast.__file__))))
    except ImportError:
        pass
    return list(dict.fromkeys(p for p in paths if os.path.isdir(p)))


def create(directory):
    """Make the environment in ``directory``; returns the path of its interpreter."""
    env_dir = os.path.join(directory, "env")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", env_dir], check=True)
    python = os.path.join(env_dir, "bin", "python")
    purelib = site_packages(python)
    os.mkdir(borrowed_dir(python))
    # The tests have the fork server import this, which not every installation has; without it each child imports all.
    with open(os.path.join(borrowed_dir(python), "test_multiprocessing_forkserver.py"), "w", encoding="utf-8") as f:
        f.write("import test._test_multiprocessing\n")
    with open(os.path.join(purelib, "conformance_startup.py"), "w", encoding="utf-8") as f:
        f.write(STARTUP.format(paths=package_paths(), borrowed=borrowed_dir(python), stacks_signal=int(STACKS_SIGNAL)))
    with open(os.path.join(purelib, "conformance.pth"), "w", encoding="utf-8") as f:
        f.write("import conformance_startup\n")
    return python


def site_packages(python):
    return subprocess.run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
                          check=True, capture_output=True, text=True).stdout.strip()


def borrowed_dir(python):
    return os.path.join(os.path.dirname(os.path.dirname(python)), "borrowed")


def borrow(python, path):
    """Let a module or package of another version's ``test`` package be found as if it were this version's."""
    return_borrowed(python, os.path.basename(path))
    target = os.path.join(borrowed_dir(python), os.path.basename(path))
    if os.path.isdir(path):
        shutil.copytree(path, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(path, target)


def return_borrowed(python, name):
    stem = os.path.join(borrowed_dir(python), name.removesuffix(".py"))
    shutil.rmtree(stem, ignore_errors=True)
    if os.path.exists(stem + ".py"):
        os.unlink(stem + ".py")


def environment(slice_name, native, home):
    """The environment variables of a slice; ``slice_name`` marks its processes, ``home`` is its own directory."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "MPFAST_CONFORMANCE"))}
    env["MPFAST_CONFORMANCE_SLICE"] = slice_name
    if native:
        env["MPFAST_CONFORMANCE"] = "1"
        env.pop("MPFAST_DISABLE", None)
    env["TMPDIR"] = home
    return env


def marked_processes(slice_name):
    """The ids of all living processes of the slices whose names begin like this, whoever started them."""
    mark = f"MPFAST_CONFORMANCE_SLICE={slice_name}".encode()
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/environ", "rb") as f:
                marked = any(variable.startswith(mark) for variable in f.read().split(b"\0"))
            with open(f"/proc/{entry}/stat", "rb") as f:
                state = f.read().rpartition(b")")[2].split()[0]
        except OSError:
            continue
        if marked and state not in (b"Z", b"X"):
            found.append(int(entry))
    return found


def kill_marked(slice_name):
    """SIGKILL every process of these slices."""
    for pid in marked_processes(slice_name):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
