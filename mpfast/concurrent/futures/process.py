"""A mirror of :mod:`concurrent.futures.process` with an executor on shared memory.

Differences from the standard library:

- Tasks and results go through shared memory; whoever waits for a result fetches it.  One thread watches the processes, and
  fetches results for callbacks and for ``wait`` and ``as_completed``.
- A task can be cancelled until a process has taken it.
- ``BrokenProcessPool`` has a cause that tells pid, exit code or signal, and task; with ``on_worker_death`` the abrupt end of
  a process costs no other task, or none at all.
- ``map()`` takes ``buffersize`` (a standard argument from CPython 3.14 on) and ``progress``; ``terminate_workers()``,
  ``kill_workers()`` (3.14) and ``max_tasks_per_child`` (3.11) are there in every version.

An executor whose class or module has steps replaced gets the standard library's steps (``_machinery``).
"""
from ..._mirror import mirror
from ..._native import native

mirror(__name__)

if native("Crew") is not None:
    from ._executor import ProcessPoolExecutor
