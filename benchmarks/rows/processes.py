"""Starting and joining processes."""
from __future__ import annotations

import mmap
import time

from benchmarks import observe, tasks
from benchmarks.registry import add, row

GIB = 1 << 30


def _start_and_join(context, together):
    """``run(n)``: starts `together` processes, joins them, and that n times."""
    def run(n):
        began = time.perf_counter()
        for _ in range(n):
            started = [context.Process(target=tasks.nothing) for _ in range(together)]
            for process in started:
                process.start()
            for process in started:
                process.join()
                process.close()
        return time.perf_counter() - began
    return run


def _resident(size):
    """So many bytes of private memory, every page written; small pages, as a program's heap has them."""
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(getattr(mmap, "MADV_NOHUGEPAGE", mmap.MADV_NORMAL))
    for offset in range(0, size, mmap.PAGESIZE):
        memory[offset] = 1
    return memory


def _start(method, bar, usual, resident_bar=None, resident_usual=None):
    def plain(impl):
        yield _start_and_join(impl.context(method), together=1)

    def resident(impl):
        memory = _resident(impl.size(GIB, GIB >> 7))
        yield _start_and_join(impl.context(method), together=1)
        memory.close()

    add(f"process.{method}", f"start+join: {method}", plain, bar=bar, usual=usual, most=100)
    add(f"process.{method}.1gib", f"start+join with 1 GiB resident: {method}", resident, bar=resident_bar,
        usual=resident_usual, most=100)


_start("fork", bar=1.2, usual=5.4e-3)
_start("forkserver", bar=5, usual=16e-3, resident_bar=5, resident_usual=19e-3)
_start("spawn", bar=2.5, usual=49e-3, resident_bar=2.5, resident_usual=59e-3)


@row("process.forkserver.16", "16 processes started and joined together, forkserver", bar=5, most=5)
def sixteen(impl):
    yield _start_and_join(impl.context("forkserver"), together=impl.size(16, 4))


@row("process.spawn.beside", "processes beside the one that is spawned", unit="processes", at_most=0, n=1)
def processes_beside(impl):
    context = impl.context("spawn")

    def run(n):
        before = observe.children()
        ours, theirs = context.Pipe()
        process = context.Process(target=tasks.wait_for, args=(theirs,))
        process.start()
        # Those that an earlier row of this process has left (a resource tracker, say) do not count.
        beside = observe.children() - before - {process.pid}
        ours.send(None)
        process.join()
        return len(beside)
    yield run
