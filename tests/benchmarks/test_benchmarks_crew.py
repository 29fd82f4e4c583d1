"""Helper processes of rows."""
import multiprocessing
import os
import sys

import pytest

from benchmarks.crew import Crew

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="crews are forked")


@pytest.fixture
def context():
    return multiprocessing.get_context("fork")


def test_parts_run_in_processes_of_their_own_and_return_their_values(context):
    with Crew(context, lambda n: [n, os.getpid()], lambda n: n + 1) as crew:
        first, second = crew.run(5)
        assert first.value == [5, crew.pids[0]] and second.value == 6
        assert first.began <= first.ended
        assert crew.run(7)[1].value == 8


def test_a_failing_part_is_reported_while_the_others_still_wait(context):
    blocked = context.Lock()
    blocked.acquire()

    def fail(n):
        raise LookupError("this part failed")

    with Crew(context, lambda n: blocked.acquire(), fail) as crew:
        with pytest.raises(RuntimeError, match="this part failed"):
            crew.run(1)


def test_a_part_that_dies_is_reported(context):
    with Crew(context, lambda n: os._exit(7)) as crew:
        with pytest.raises(RuntimeError, match="exit code 7"):
            crew.run(1)
