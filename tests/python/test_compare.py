"""``python -m mpfast compare``."""
import re

import pytest


@pytest.fixture
def compare(python, tmp_path):
    def run(source, *arguments):
        (tmp_path / "program.py").write_text(source)
        return python("-m", "mpfast", "compare", "--repeats", "2", "program.py", *arguments)

    return run


def test_the_same_output(compare):
    done = compare("import sys; print('out', sys.argv); sys.exit(3)", "-x", "--repeats")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "same output, same exit status" in done.stdout
    assert done.stdout.startswith("program.py -x --repeats: median of 2 interleaved runs\n")
    for side in ("stdlib", "mpfast"):
        assert re.search(rf"{side} +\d+\.\d+ s +exit status 3", done.stdout)
    assert re.search(r"ratio +\d+\.\d+x", done.stdout)


def test_each_side_runs_on_what_it_says(compare):
    done = compare("import sys; print('mpfast' in sys.modules)")
    assert done.returncode == 1
    assert "stdout: False" in done.stdout and "stdout: True" in done.stdout


@pytest.mark.parametrize("ending", ["print('x' * installed)", "sys.exit(installed)", "1 / (not installed)"])
def test_a_difference(compare, ending):
    done = compare(f"import sys; installed = 'mpfast' in sys.modules; {ending}")
    assert done.returncode == 1
    assert "DIFFERENT" in done.stdout and "--- stdlib: exit status 0" in done.stdout


def test_a_program_that_differs_from_run_to_run(compare):
    done = compare("import os; print(os.getpid())")
    assert done.returncode == 1
    assert "does not print the same each time on the standard library" in done.stdout


def test_modules_and_code(python):
    assert python("-m", "mpfast", "compare", "--repeats", "1", "-m", "this").returncode == 0
    assert python("-m", "mpfast", "compare", "--repeats", "1", "-c", "print(input())").returncode == 0


@pytest.mark.parametrize("arguments", [[], ["--repeats", "0", "program.py"], ["--repeats", "x", "program.py"]])
def test_mistakes(python, arguments):
    done = python("-m", "mpfast", "compare", *arguments)
    assert done.returncode == 2 and "usage:" in done.stderr
