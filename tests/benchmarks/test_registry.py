"""The table of rows and how rows are selected."""
import pytest

from benchmarks import peers, registry
from benchmarks.worker import calibrate


@pytest.fixture(scope="module")
def rows():
    return registry.all_rows()


def test_every_group_has_rows_in_the_table_order(rows):
    groups = [r.group for r in rows]
    assert list(dict.fromkeys(groups)) == list(registry.GROUPS)
    assert groups == sorted(groups, key=registry.GROUPS.index)


def test_every_row_can_be_done_by_the_standard_library_and_mpfast(rows):
    for name in (peers.REFERENCE, peers.SUBJECT):
        assert {r.uses for r in rows} <= peers.IMPLEMENTATIONS[name].provides


@pytest.mark.parametrize("pattern, expected", [
    ("lock.with", {"lock.with", "lock.with.syscalls"}),
    ("event", {"event.is_set", "event.create", "event.pingpong", "event.syscalls", "event.create.syscalls",
               "event.blocked_cpu"}),
    ("*.blocked_cpu", {"lock.blocked_cpu", "semaphore.blocked_cpu", "condition.blocked_cpu", "event.blocked_cpu",
                       "barrier.blocked_cpu"}),
])
def test_selection_by_key_prefix_or_glob(rows, pattern, expected):
    assert {r.key for r in registry.select(rows, [pattern])} == expected


def test_selection_by_group_keeps_the_order(rows):
    assert registry.select(rows, ["values", "locks"]) == [r for r in rows if r.group in ("locks", "values")]


def test_a_name_that_selects_nothing_is_an_error(rows):
    with pytest.raises(ValueError, match="semaphre"):
        registry.select(rows, ["locks", "semaphre"])


def test_two_rows_cannot_have_one_key(rows):
    with pytest.raises(ValueError, match="lock.with"):
        registry.add("lock.with", "again", rows[0].setup)


@pytest.mark.parametrize("cost, most, expected", [(0.01, 1000, 20), (1e-6, 1000, 1000), (5.0, 1000, 1)])
def test_calibration_fills_the_sample(cost, most, expected):
    assert calibrate(lambda n: n * cost, target=0.2, most=most) == expected
