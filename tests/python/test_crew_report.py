"""Crews: exceptions of tasks, and those in place of what cannot be sent or read."""
import pickle

import pytest

from mpfast import _native

if not _native.ENABLED:
    pytest.skip("crews are native", allow_module_level=True)

from crew_team import PATIENCE, Team, Unpicklable, fail_on, square  # noqa: E402

from mpfast import _core  # noqa: E402


class Undecodable:
    """Can be pickled and not unpickled."""

    def __reduce__(self):
        return raise_undecodable, ()


def raise_undecodable():
    raise LookupError("not to be unpickled")


class NeedsTwo(Exception):
    def __init__(self, one, two):
        super().__init__(one)


def raise_it(error):
    raise error


def raise_needs_two():
    raise NeedsTwo(1, 2)


def raise_unpicklable():
    error = ValueError("has baggage")
    error.baggage = Unpicklable()
    raise error


def test_an_exception_of_the_function_is_raised_by_get(team):
    team.start()
    receiver = team.submit(fail_on, 3, 3)
    with pytest.raises(ValueError, match="3 is bad"):
        receiver.get(PATIENCE)
    assert receiver.ready and not receiver.ok and type(receiver.value) is ValueError


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt("mine"), GeneratorExit()], ids=repr)
def test_exceptions_that_end_programs_are_results_too(team, error):
    team.start()
    with pytest.raises(type(error)):
        team.call(raise_it, error)
    assert team.call(square, 3) == 9


def test_arguments_that_cannot_be_unpickled_are_the_error_of_their_task(team):
    team.start()
    with pytest.raises(LookupError, match="not to be unpickled"):
        team.call(square, Undecodable())
    assert team.call(square, 3) == 9


def test_a_result_that_cannot_be_pickled_is_an_error(team):
    team.start()
    with pytest.raises(RuntimeError, match="not to be pickled"):
        team.call(Unpicklable)


def test_a_result_that_cannot_be_unpickled_is_an_error(team):
    team.start()
    with pytest.raises(LookupError, match="not to be unpickled"):
        team.call(Undecodable)


def test_an_exception_that_cannot_be_pickled_is_an_error(team):
    team.start()
    with pytest.raises(RuntimeError, match="not to be pickled"):
        team.call(raise_unpicklable)


def test_an_exception_that_cannot_be_unpickled_is_an_error(team):
    team.start()
    with pytest.raises(TypeError, match="two"):
        team.call(raise_needs_two)


def wrap(error):
    return RuntimeError("wrapped", error)


def replace(error, value, ok):
    return LookupError(type(error).__name__, type(value).__name__, ok)


def replace_badly(error, value, ok):
    return raise_it(error)


def test_exceptions_are_wrapped(team):
    team.start(wrap=wrap)
    with pytest.raises(RuntimeError) as info:
        team.call(fail_on, 3, 3)
    assert info.value.args[0] == "wrapped" and info.value.args[1].args == ("3 is bad",)


def test_what_cannot_be_sent_is_replaced(team):
    team.start(unencodable=replace, wrap=wrap)
    with pytest.raises(LookupError) as info:
        team.call(Unpicklable)
    assert info.value.args == ("RuntimeError", "Unpicklable", True)
    with pytest.raises(LookupError) as info:
        team.call(raise_needs_two)
    assert info.value.args == ("TypeError", "NeedsTwo", False)


def test_what_cannot_be_replaced_either_is_a_pickling_error(team):
    team.start(unencodable=replace_badly)
    with pytest.raises(pickle.PicklingError, match="not to be pickled"):
        team.call(Unpicklable)


def as_os_error(error):
    return OSError("undecodable", type(error).__name__)


def test_an_owner_chooses_the_error_for_undecodable_arguments(team):
    team.start(undecodable=as_os_error)
    with pytest.raises(OSError, match="undecodable"):
        team.call(square, Undecodable())


def test_a_worker_ends_when_undecodable_raises(team):
    slot = team.start(undecodable=raise_it)
    receiver = team.submit(square, Undecodable())
    (lost,) = team.bury(slot)
    assert lost[1] is receiver and team.processes[slot].exitcode == 1


def test_an_owner_chooses_the_error_for_undecodable_results():
    team = Team()
    team.crew = _core.Crew(4, undecodable=as_os_error)
    team.start()
    try:
        with pytest.raises(OSError, match="undecodable"):
            team.call(Undecodable)
    finally:
        team.stop()
