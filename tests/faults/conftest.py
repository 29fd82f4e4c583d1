"""Fault tests need the native part; each ends with as many blocks and references as it began with."""
import gc

import pytest

from mpfast import _native

collect_ignore_glob = [] if _native.ENABLED else ["test_*.py"]


@pytest.fixture
def no_leak():
    import mpfast
    keep = mpfast.Lock()  # there is an arena before the first count
    before = settled()
    yield
    assert settled() == before
    del keep


def settled():
    """What is left when garbage collections find nothing more: without a global lock it takes more than one."""
    from .crew import figures
    former = None
    while True:
        gc.collect()
        found = figures()
        if found == former:
            return found
        former = found


@pytest.fixture
def crew(no_leak):
    """Function (work, count=3) that makes a Crew; its processes do not outlive the test."""
    from .crew import Crew
    crews = []

    def make(work, count=3):
        crews.append(Crew(work, count))
        return crews[-1]

    yield make
    for made in crews:
        made.destroy()
    crews.clear()
