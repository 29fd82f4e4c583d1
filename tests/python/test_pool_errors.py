"""Pools: the errors of tasks, and of what cannot be sent."""
import threading

import pytest
from pool_tasks import LONG, fail, square, unencodable, until

import mpfast
import mpfast.pool

pytestmark = pytest.mark.skipif(not hasattr(mpfast.pool.Pool, "_supervisor"), reason="no native pool here")


def test_remote_traceback(pool):
    with pytest.raises(KeyError) as caught:
        pool.apply(fail, (17,))
    assert caught.value.args == (17,)
    assert type(caught.value.__cause__).__name__ == "RemoteTraceback"
    assert "raise KeyError(x)" in str(caught.value.__cause__)


def fail_at_three(x):
    if x == 3:
        raise KeyError(x)
    return x


def test_an_error_in_a_map(forked):
    with pytest.raises(KeyError):
        forked.map(fail_at_three, range(10), chunksize=1)
    iterator = forked.imap(fail_at_three, range(6))
    assert [next(iterator) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(KeyError):
        next(iterator)
    assert list(iterator) == [4, 5]


class _Refuses(Exception):
    def __reduce__(self):
        raise TypeError("not this one")


def _raise_unencodable():
    raise _Refuses("the text of it")


class _NeedsTwo(Exception):
    def __init__(self, a, b):
        super().__init__(a)


def _raise_undecodable():
    raise _NeedsTwo(1, 2)


def test_a_result_that_cannot_be_sent(forked):
    with pytest.raises(mpfast.pool.MaybeEncodingError) as caught:
        forked.apply(unencodable)
    assert "lock" in caught.value.value
    with pytest.raises(mpfast.pool.MaybeEncodingError):
        forked.map(unencodable, range(4))
    with pytest.raises(mpfast.pool.MaybeEncodingError) as caught:
        forked.apply(_raise_unencodable)
    assert "the text of it" in str(caught.value)


def test_an_exception_that_cannot_be_rebuilt(forked):
    with pytest.raises(Exception) as caught:
        forked.apply_async(_raise_undecodable).get(LONG)
    assert "_NeedsTwo" in str(caught.value) or "argument" in str(caught.value)
    assert forked.apply(square, (2,)) == 4


def test_a_task_that_cannot_be_sent(forked):
    errors = []
    lock = threading.Lock()
    result = forked.apply_async(square, (lock,), error_callback=errors.append)
    with pytest.raises(TypeError):
        result.get(LONG)
    until(lambda: errors)
    with pytest.raises(TypeError):
        forked.map(square, [1, lock, 3], chunksize=1)
    iterator = forked.imap(square, [1, lock, 3])
    assert next(iterator) == 1
    with pytest.raises(TypeError):
        next(iterator)
    assert next(iterator) == 9


def _exit_softly():
    raise SystemExit(4)


def _interrupt():
    raise KeyboardInterrupt("from afar")


def test_base_exceptions_reach_the_caller(forked):
    with pytest.raises(SystemExit) as caught:
        forked.apply_async(_exit_softly).get(LONG)
    assert caught.value.code == 4
    with pytest.raises(KeyboardInterrupt, match="from afar"):
        forked.apply_async(_interrupt).get(LONG)
    assert forked.apply(square, (2,)) == 4
