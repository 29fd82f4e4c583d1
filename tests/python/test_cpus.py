"""mpfast.cpu_count(): all processors, cores, and what affinity and control groups leave of them."""
import os

import pytest

import mpfast
from mpfast import _cpus


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def topology(root, cores):
    """Processor i is a thread of core cores[i]."""
    for processor, core in enumerate(cores):
        directory = root / f"sys/devices/system/cpu/cpu{processor}/topology"
        write(directory / "physical_package_id", "0\n")
        write(directory / "core_id", f"{core}\n")


@pytest.fixture
def eight(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3, 4, 5}, raising=False)


def test_plain_is_the_stdlibs(monkeypatch):
    assert mpfast.cpu_count() == os.cpu_count() == mpfast.get_context("spawn").cpu_count()
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    with pytest.raises(NotImplementedError, match="cannot determine number of cpus"):
        mpfast.cpu_count()


def test_available_is_what_the_affinity_leaves():
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert mpfast.cpu_count(available=True) == 1
        assert mpfast.cpu_count(logical=False, available=True) == 1
        assert mpfast.cpu_count() == os.cpu_count()
    finally:
        os.sched_setaffinity(0, allowed)


def test_cores_are_counted_once(eight, tmp_path):
    topology(tmp_path, [0, 1, 2, 3, 0, 1, 2, 3])
    assert _cpus.count(logical=False, root=tmp_path) == 4
    assert _cpus.count(logical=False, available=True, root=tmp_path) == 4
    topology(tmp_path, [0, 0, 1, 1, 2, 2, 3, 3])
    assert _cpus.count(logical=False, available=True, root=tmp_path) == 3


def test_where_the_system_tells_nothing_each_processor_is_a_core(eight, tmp_path):
    assert _cpus.count(logical=False, root=tmp_path) == 8
    assert _cpus.count(available=True, root=tmp_path) == 6


@pytest.mark.parametrize("limit, processors", [("max 100000", 6), ("200000 100000", 2), ("150000 100000", 2),
                                               ("1000 100000", 1), ("900000 100000", 6)])
def test_quota_of_a_unified_group(eight, tmp_path, limit, processors):
    write(tmp_path / "proc/self/cgroup", "0::/a/b\n")
    write(tmp_path / "sys/fs/cgroup/a/b/cpu.max", limit + "\n")
    assert _cpus.count(available=True, root=tmp_path) == processors
    assert _cpus.count(root=tmp_path) == 8


def test_the_strictest_group_around_counts(eight, tmp_path):
    write(tmp_path / "proc/self/cgroup", "0::/a/b\n")
    write(tmp_path / "sys/fs/cgroup/a/b/cpu.max", "500000 100000\n")
    write(tmp_path / "sys/fs/cgroup/a/cpu.max", "300000 100000\n")
    assert _cpus.count(available=True, root=tmp_path) == 3


@pytest.mark.parametrize("mount", ["cpu", "cpu,cpuacct"])
def test_quota_of_a_legacy_group(eight, tmp_path, mount):
    write(tmp_path / "proc/self/cgroup", "5:memory:/m\n4:cpu,cpuacct:/a\n")
    write(tmp_path / f"sys/fs/cgroup/{mount}/a/cpu.cfs_quota_us", "250000\n")
    write(tmp_path / f"sys/fs/cgroup/{mount}/a/cpu.cfs_period_us", "100000\n")
    assert _cpus.count(available=True, root=tmp_path) == 3
    write(tmp_path / f"sys/fs/cgroup/{mount}/a/cpu.cfs_quota_us", "-1\n")
    assert _cpus.count(available=True, root=tmp_path) == 6
