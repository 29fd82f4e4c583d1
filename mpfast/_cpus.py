"""How many processors there are: all of them, or those that this process may use."""
import math
import os
from pathlib import Path


def count(logical=True, available=False, *, root="/"):
    """See :func:`mpfast.cpu_count`.  *root* is where proc/ and sys/ are looked for."""
    processors = range(os.cpu_count() or 0)
    if available and hasattr(os, "sched_getaffinity"):
        processors = os.sched_getaffinity(0)
    if not processors:
        raise NotImplementedError("cannot determine number of cpus")
    number = len(processors) if logical else _cores(processors, Path(root))
    share = _quota(Path(root)) if available else None
    return number if share is None else max(1, min(number, math.ceil(share)))


def _cores(processors, root):
    """How many cores the processors are: two hardware threads of one core have its package and core number in common."""
    return len({_core_of(processor, root) for processor in processors})


def _core_of(processor, root):
    topology = root / f"sys/devices/system/cpu/cpu{processor}/topology"
    try:
        return (topology / "physical_package_id").read_text(), (topology / "core_id").read_text()
    except OSError:
        return processor  # this system does not tell: a core of its own


def _quota(root):
    """The processors' worth of time that the control groups of this process allow, the strictest of them; or None."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    shares = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            shares += _shares(root / "sys/fs/cgroup", path, _unified)
        elif "cpu" in controllers.split(","):
            for mount in {"cpu", controllers}:
                shares += _shares(root / "sys/fs/cgroup" / mount, path, _legacy)
    return min(shares, default=None)


def _shares(mount, path, read):
    """What *read* finds in the group at *path* and in each group around it."""
    group = mount / path.lstrip("/")
    for directory in (group, *group.parents):
        if directory == mount.parent:
            break
        try:
            quota, period = read(directory)
        except (OSError, ValueError):
            continue  # no limit at this level
        if quota > 0 and period > 0:
            yield quota / period


def _unified(directory):
    quota, period = (directory / "cpu.max").read_text().split()
    return int(quota), int(period)


def _legacy(directory):
    return (int((directory / "cpu.cfs_quota_us").read_text()), int((directory / "cpu.cfs_period_us").read_text()))
