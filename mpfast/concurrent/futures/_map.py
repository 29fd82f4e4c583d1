"""Executor.map: the results of one call, as they come out in order."""
import collections
import itertools
import multiprocessing
import time
import weakref
from concurrent.futures import _base

from ..._native import core


class MapResults(core.Stream):
    """The results of the pieces of a map, one by one, each raised where it is an error."""

    __slots__ = ()

    def fail(self, error):
        """The executor gives up what is not done."""
        self.finish(False, error)

    def taken_out_of_line(self, index):
        """The executor has cancelled the piece *index*."""
        self.push(index, False, _base.CancelledError())


def deadline_of(timeout):
    """When *timeout* seconds (None: never) from now are over, on the monotonic clock."""
    return None if timeout is None else time.monotonic() + timeout


def _next_within(results, deadline):
    """The next result; TimeoutError at the deadline, StopIteration at the end."""
    if deadline is None:
        return next(results)
    try:
        return results.next(max(0.0, deadline - time.monotonic()))
    except multiprocessing.TimeoutError:
        if time.monotonic() < deadline:
            raise  # the task's own
        raise _base.TimeoutError() from None


# What is not done is cancelled when one of these ends, and no interrupt may come before that, or the program would do it all
# first: the call is to C, and with nothing in between that looks for signals, or it is made again.

def iterate(crew, results, deadline):
    """Generator over *results*, a :class:`MapResults`.  What is not done is cancelled when it ends before them."""
    try:
        if deadline is None:
            yield from results
        else:
            while True:
                try:
                    yield _next_within(results, deadline)
                except StopIteration:
                    return
    finally:
        try:
            crew.cancel_all(results)
        except RuntimeError:
            pass  # a generator that a fork has copied: the crew is the parent's
        except BaseException:
            crew.cancel_all(results)
            raise


def iterate_feeding(crew, results, deadline, feed, chunksize):
    """The same as iterate(); before each piece is waited for, ``feed()`` submits another."""
    try:
        while True:
            feed()
            try:
                piece = _next_within(results, deadline)
            except StopIteration:
                return
            if chunksize == 1:
                piece = [piece]
            piece.reverse()
            while piece:
                yield piece.pop()
    finally:
        try:
            crew.cancel_all(results)
        except RuntimeError:
            pass  # a generator that a fork has copied: the crew is the parent's
        except BaseException:
            crew.cancel_all(results)
            raise


def fail_at_once(error):
    """Generator that raises *error*."""
    raise error
    yield


# ---- by submit()

def _call_piece(fn, piece):
    return [fn(*args) for args in piece]


def _pieces(iterables, chunksize):
    arguments = zip(*iterables)
    return iter(lambda: tuple(itertools.islice(arguments, chunksize)), ())


def by_submitting(executor, fn, iterables, timeout, chunksize, buffersize):
    """What map() gives for an executor that has a submit() of its own: each piece goes through that."""
    deadline = deadline_of(timeout)
    pieces = _pieces(iterables, chunksize)
    ahead = pieces if buffersize is None else itertools.islice(pieces, buffersize)
    futures = collections.deque(executor.submit(_call_piece, fn, piece) for piece in ahead)
    return _results_of(weakref.ref(executor), fn, pieces, futures, deadline)


def _results_of(executor_ref, fn, pieces, futures, deadline):
    try:
        while futures:
            executor = executor_ref()
            if executor is not None:
                for piece in pieces:
                    futures.append(executor.submit(_call_piece, fn, piece))
                    break
                del executor
            left = None if deadline is None else deadline - time.monotonic()
            results = futures.popleft().result(left)
            results.reverse()
            while results:
                yield results.pop()
    finally:
        for future in futures:
            future.cancel()
