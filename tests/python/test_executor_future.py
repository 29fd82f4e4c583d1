"""ProcessPoolExecutor: futures, waited for, cancelled and called back."""
import asyncio
import concurrent.futures as stdlib
import threading

import pytest
from executor_tasks import LONG, Blocked, add, context, count_up, eventually, fail, identity, native

from mpfast.concurrent.futures import ProcessPoolExecutor


def test_waiting_for_a_result_ends_at_the_timeout():
    with Blocked() as blocked:
        for call in (blocked.first.result, blocked.first.exception):
            with pytest.raises(stdlib.TimeoutError):
                call(0.01)
            with pytest.raises(stdlib.TimeoutError):
                call(timeout=0)
        blocked.release()
        assert blocked.first.result(LONG) == "waited"


def test_one_thread_waits_while_another_collects(executor):
    with Blocked() as blocked:
        results = []
        waiting = threading.Thread(target=lambda: results.append(blocked.first.result(LONG)))
        waiting.start()
        blocked.executor.submit(identity, 1)
        blocked.release()
        eventually(blocked.first.done)
        waiting.join(LONG)
        assert results == ["waited"]


def test_a_settled_future_cannot_be_settled_again(executor):
    future = executor.submit(identity, 1)
    assert future.result(LONG) == 1
    for call in (lambda: future.set_result(2), lambda: future.set_exception(ValueError())):
        with pytest.raises(stdlib.InvalidStateError, match="FINISHED: <Future"):
            call()
    assert future.result() == 1


@native
def test_a_future_that_the_program_settles_itself():
    with Blocked() as blocked:
        other = blocked.executor.submit(identity, 1)
        noted = []
        other.add_done_callback(noted.append)
        other.set_result("mine")
        assert noted == [other] and other.result() == "mine" and other.done()
        blocked.release()
        assert blocked.executor.submit(identity, 2).result(LONG) == 2
        assert other.result() == "mine" and noted == [other]


# ---- cancel

def test_a_task_that_no_worker_has_taken_can_be_cancelled():
    counter = context.Value("i")
    with Blocked() as blocked:
        second = blocked.executor.submit(count_up, counter)
        third = blocked.executor.submit(count_up, counter)
        queued = [blocked.executor.submit(identity, i) for i in range(10)]
        assert blocked.first.running() and not blocked.first.cancel()
        assert queued[-1].cancel() and queued[-1].cancel() and queued[-1].cancelled() and queued[-1].done()
        assert not queued[-1].running()
        for call in (queued[-1].result, queued[-1].exception):
            with pytest.raises(stdlib.CancelledError):
                call()
        assert repr(queued[-1]) == f"<Future at {id(queued[-1]):#x} state=cancelled>"
        blocked.release()
        assert [future.result(LONG) for future in queued[:-1]] == list(range(9))
        assert third.result(LONG) is None and second.result(LONG) is None
    assert counter.value == 2 and not blocked.first.cancel()


def test_what_was_cancelled_never_runs():
    counter = context.Value("i")
    with Blocked() as blocked:
        futures = [blocked.executor.submit(count_up, counter) for _ in range(20)]
        cancelled = [future for future in futures if future.cancel()]
        assert len(cancelled) >= 15
        blocked.release()
        blocked.executor.shutdown()
        assert counter.value == len(futures) - len(cancelled)


# ---- callbacks

def test_done_without_anybody_waiting(executor):
    future = executor.submit(identity, 1)
    eventually(future.done)
    futures = [executor.submit(identity, i) for i in range(100)]
    eventually(lambda: all(future._state == "FINISHED" for future in futures))


def test_callbacks_run_without_anybody_waiting(executor):
    called, all_called = [], threading.Event()

    def note(future):
        called.append((future.result(), threading.current_thread()))
        if len(called) == 100:
            all_called.set()

    for i in range(100):
        executor.submit(identity, i).add_done_callback(note)
    assert all_called.wait(LONG)
    assert sorted(value for value, thread in called) == list(range(100))


def test_callbacks_run_once_in_order_and_at_once_when_it_is_over(executor, caplog):
    called = []
    with Blocked() as blocked:
        blocked.first.add_done_callback(lambda future: called.append(1))
        blocked.first.add_done_callback(lambda future: fail("of the callback"))
        blocked.first.add_done_callback(lambda future: called.append(2))
        blocked.release()
        assert blocked.first.result(LONG) == "waited"
        eventually(lambda: called == [1, 2])
        blocked.first.add_done_callback(lambda future: called.append(3))
        assert called == [1, 2, 3]
    assert "of the callback" in caplog.text and "exception calling callback for <Future" in caplog.text


def test_a_callback_of_a_cancelled_future_runs_in_cancel():
    called = []
    with Blocked() as blocked:
        futures = [blocked.executor.submit(identity, i) for i in range(5)]
        futures[-1].add_done_callback(lambda future: called.append(future.cancelled()))
        futures[-1].cancel()
        assert called == [True]


def test_a_callback_may_submit(executor):
    results, over = [], threading.Event()

    def go_on(future):
        results.append(future.result())
        if len(results) < 20:
            executor.submit(add, future.result(), 1).add_done_callback(go_on)
        else:
            over.set()

    executor.submit(identity, 0).add_done_callback(go_on)
    assert over.wait(LONG) and results == list(range(20))


# ---- wait, as_completed and asyncio

def test_wait(executor):
    with Blocked() as blocked:
        quick = executor.submit(identity, 1)
        done, pending = stdlib.wait([quick, blocked.first], LONG, stdlib.FIRST_COMPLETED)
        assert (done, pending) == ({quick}, {blocked.first})
        failing = executor.submit(fail, "first")
        done, pending = stdlib.wait([failing, blocked.first], LONG, stdlib.FIRST_EXCEPTION)
        assert (done, pending) == ({failing}, {blocked.first})
        assert stdlib.wait([quick, blocked.first], 0.01).not_done == {blocked.first}
        blocked.release()
        assert stdlib.wait([quick, failing, blocked.first], LONG).not_done == set()


@native
def test_waiting_for_what_is_cancelled_meanwhile():
    with Blocked() as blocked:
        queued = [blocked.executor.submit(identity, i) for i in range(5)][-1]
        threading.Timer(0.02, queued.cancel).start()
        assert stdlib.wait([queued], LONG).done == {queued}
        assert list(stdlib.as_completed([queued], LONG)) == [queued]


def test_as_completed(executor):
    futures = [executor.submit(identity, i) for i in range(500)]
    assert sorted(future.result() for future in stdlib.as_completed(futures + futures, LONG)) == list(range(500))
    assert sorted(future.result() for future in stdlib.as_completed(futures, LONG)) == list(range(500))


def test_as_completed_of_several_executors(executor):
    with ProcessPoolExecutor(1, mp_context=context) as other, stdlib.ThreadPoolExecutor(1) as threads:
        futures = [maker.submit(identity, i) for i in range(100) for maker in (executor, other, threads)]
        got = [future.result() for future in stdlib.as_completed(futures, LONG)]
    assert sorted(got) == [i for i in range(100) for _ in range(3)]


def test_as_completed_ends_at_the_timeout():
    with Blocked() as blocked:
        with pytest.raises(stdlib.TimeoutError, match=r"1 \(of 1\) futures unfinished"):
            list(stdlib.as_completed([blocked.first], 0.01))


@native
def test_asyncio(executor):
    async def main():
        loop = asyncio.get_running_loop()
        results = await asyncio.gather(*[loop.run_in_executor(executor, identity, i) for i in range(100)])
        with pytest.raises(ValueError, match="in the loop"):
            await loop.run_in_executor(executor, fail, "in the loop")
        wrapped = await asyncio.wait_for(asyncio.wrap_future(executor.submit(add, 1, 2)), LONG)
        with Blocked() as blocked:
            queued = [blocked.executor.submit(identity, i) for i in range(5)]
            task = asyncio.wrap_future(queued[-1])
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.sleep(0)
            assert queued[-1].cancelled()
        return results, wrapped

    assert asyncio.run(main()) == (list(range(100)), 3)
