"""What a worker process of an executor runs."""
from ..._crew_worker import work as work_for_crew


def _initialize(initializer, initargs):
    try:
        initializer(*initargs)
    except BaseException:
        from concurrent.futures._base import LOGGER
        LOGGER.critical("Exception in initializer:", exc_info=True)
        raise SystemExit(1) from None


def _wrap(exception):
    from concurrent.futures.process import _ExceptionWithTraceback
    return _ExceptionWithTraceback(exception, exception.__traceback__)


def _unencodable(error, value, ok):
    return _wrap(error)


def _undecodable(error):
    raise error


def work(crew, slot, initializer, initargs, *options, dies_of_undecodable):
    """See mpfast._crew_worker.work.  An initializer that raises, and a task that cannot be read, end the process.

    dies_of_undecodable: bool; False makes the latter an error of the task alone.
    """
    if initializer is not None:
        initializer, initargs = _initialize, (initializer, initargs)
    work_for_crew(crew, slot, initializer, initargs, *options, _wrap, _unencodable,
                  _undecodable if dies_of_undecodable else None)
