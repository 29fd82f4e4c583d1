"""Which modules the fork server has: what children see of it."""
import pytest

from mpfast import _native, _prefetch, popen_fork

pytestmark = pytest.mark.skipif(not _native.ENABLED or not hasattr(popen_fork, "watching"),
                                reason="the standard library's server forks")

# Children print what `look` returns.
PROGRAM = """
import sys
there = [name for name in ("hmac", "random", "subprocess", "tempfile") if name in sys.modules]
{imports}
import mpfast

def look():
    {look}

def child(connection):
    connection.send(look())

def ask():
    ours, theirs = context.Pipe()
    process = context.Process(target=child, args=(theirs,))
    process.start()
    theirs.close()
    try:
        return ours.recv()
    finally:
        process.join()

if __name__ == "__main__":
    context = mpfast.get_context("forkserver")
    context.set_forkserver_preload([])
    {main}
"""


@pytest.fixture
def program(python, tmp_path):
    """Function (imports, look, main) that runs a program and returns what it prints."""

    def run(imports, look, main):
        (tmp_path / "program.py").write_text(PROGRAM.format(imports=imports, look=look.replace("\n", "\n    "),
                                                            main=main.replace("\n", "\n    ")))
        done = python("program.py")
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.mark.skipif(_native.ENABLED and _prefetch.new() is None, reason="children of this version tell nothing")
def test_what_children_import_the_server_has_from_then_on(program):
    out = program("import hmac, random", "return there, random.random()", """
seen = [ask() for _ in range(3)]
while len(seen) < 100 and seen[-1][0] != ["hmac", "random"]:
    seen.append(ask())
seen += [ask(), ask()]
print(seen[0][0], seen[-1][0], len({number for _, number in seen}) == len(seen))""")
    assert out == "[] ['hmac', 'random'] True\n"


def test_a_module_of_the_program_comes_first(program, tmp_path):
    (tmp_path / "hmac.py").write_text("mine = True")
    out = program("import hmac", "return there, hmac.mine", "print({repr(ask()) for _ in range(10)})")
    assert out == "{'([], True)'}\n"


def test_what_is_put_off_is_there_when_it_is_used(program):
    look = """import os
import subprocess
import tempfile
from multiprocessing import connection, spawn, synchronize, util
from threading import Thread
names = []
threads = [Thread(target=lambda: names.append(synchronize.SemLock._make_name())) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
used = getattr(connection, "tempfile", tempfile)
return (len(set(names)), {len(name.rpartition("-")[2]) for name in names}, used.gettempdir() == tempfile.gettempdir(),
        util._args_from_interpreter_flags() == subprocess._args_from_interpreter_flags(), hasattr(spawn.runpy, "run_path"),
        os.path.isdir(util.get_temp_dir()))"""
    assert program("", look, "print(ask())") == "(8, {8}, True, True, True, True)\n"
