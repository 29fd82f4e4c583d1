"""Fault tests need the native part; each ends with as many blocks and references as it began with."""
import gc

import pytest

from mpfast import _native

collect_ignore_glob = [] if _native.ENABLED else ["test_*.py"]


@pytest.fixture
def no_leak():
    from .crew import figures
    import mpfast
    keep = mpfast.Lock()  # there is an arena before the first count
    gc.collect()
    before = figures()
    yield
    gc.collect()
    assert figures() == before
    del keep


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
