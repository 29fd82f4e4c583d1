"""Crews: how calls, and maps cut into pieces, are sent to workers."""
import pytest

from mpfast import _native

if not _native.ENABLED:
    pytest.skip("crews are native", allow_module_level=True)

from crew_team import FORK, PATIENCE, Unpicklable, fail_on_seven, square  # noqa: E402

from mpfast import _core  # noqa: E402


def test_arguments_may_be_any_iterable_and_keywords_none(team):
    team.start()
    receiver = _core.Receiver()
    team.crew.submit(pow, [2, 5], None, receiver)
    assert receiver.get(PATIENCE) == 32


def test_arguments_that_cannot_be_pickled_raise_from_submit(team):
    receiver = _core.Receiver()
    with pytest.raises(RuntimeError, match="not to be pickled"):
        team.crew.submit(square, (Unpicklable(),), {}, receiver)
    assert team.crew.pending == 0
    assert not receiver.ready and receiver.sent == 0


# ---- maps


@pytest.mark.parametrize("chunksize", [1, 2, 7, 100])
@pytest.mark.parametrize("length", [0, 1, 20])
def test_a_map_returns_the_results_in_order(team, length, chunksize):
    team.start(2)
    assert team.map(square, list(range(length)), chunksize) == [x * x for x in range(length)]


@pytest.mark.parametrize("items", [(1, 2, 3), range(1, 4), {1: 0, 2: 0, 3: 0}], ids=repr)
def test_a_map_takes_any_sized_iterable(team, items):
    team.start()
    assert team.map(square, items, 2) == [1, 4, 9]


def test_starmap(team):
    team.start()
    assert team.map(pow, [(2, 3), [3, 2]], 1, star=True) == [8, 9]
    assert team.map(pow, [(2, 3), (3, 2)], 2, star=True) == [8, 9]


@pytest.mark.parametrize("chunksize", [1, 4])
def test_the_first_exception_of_a_map_is_raised_when_all_is_done(team, chunksize):
    team.start(2)
    receiver = team.map_async(fail_on_seven, list(range(20)), chunksize)
    with pytest.raises(ValueError, match="7 is bad"):
        receiver.get(PATIENCE)
    assert receiver.received == receiver.sent == -(-20 // chunksize)
    assert team.crew.pending == 0


def test_an_item_that_cannot_be_pickled_fails_its_piece_and_no_other(team):
    team.start()
    stream = team.stream(square, [1, Unpicklable(), 3])
    assert next(stream) == 1
    with pytest.raises(RuntimeError, match="not to be pickled"):
        next(stream)
    assert list(stream) == [9]
    with pytest.raises(RuntimeError, match="not to be pickled"):
        team.map(square, [1, Unpicklable(), 3], 2)


def test_a_function_that_cannot_be_pickled_raises(team):
    function = Unpicklable()
    with pytest.raises(RuntimeError, match="not to be pickled"):
        team.map(function, [1, 2], 1)
    assert team.crew.pending == 0


def test_items_that_are_one_object_stay_one_object(team):
    team.start()
    row = [1]
    one, two = team.map(list, [[row], [row]], 2)
    assert one == two == [[1]]
    ((a, b),) = team.map(list, [[row, row]], 1)
    assert a is b


def contains_itself():
    made = [1]
    made.append(made)
    return made


def test_a_result_that_contains_itself_still_does(team):
    team.start()
    got = team.call(contains_itself)
    assert got[1] is got
    (got,) = team.map(list, [[got]], 2)
    assert got[0][1] is got[0]


def test_a_list_that_shrinks_while_it_is_read(team):
    class Shrinks:
        def __reduce__(self):
            del items[2:]
            return int, ()

    team.start()
    items = [Shrinks(), 1, 2, 3]
    receiver = _core.Receiver()
    receiver.expect_list(4, 1)
    assert team.crew.submit_pieces(False, square, items, 1, receiver) == (2, True)
    assert receiver.get(PATIENCE)[:2] == [0, 1]


def test_a_list_that_grows_while_it_is_read(team):
    class Grows:
        def __reduce__(self):
            items.extend(range(100))
            return int, ()

    team.start()
    items = [Grows(), 1]
    assert team.map(square, items, 1) == [0, 1]
    assert team.crew.pending == 0


def broken_input():
    yield 1
    yield 2
    yield 3
    raise LookupError("the input ends here")


def test_an_exception_of_the_input_is_raised_after_what_came_before(team):
    team.start()
    stream = _core.Stream()
    with pytest.raises(LookupError, match="ends here"):
        team.crew.submit_pieces(False, square, broken_input(), 2, stream)
    assert stream.sent == 1  # not the piece that it came in the middle of
    stream.push(stream.sent, False, LookupError("pushed"))
    stream.set_length(stream.sent)
    assert next(stream) == [1, 4]
    with pytest.raises(LookupError, match="pushed"):
        next(stream)
    with pytest.raises(StopIteration):
        next(stream)


# ---- in steps


def test_an_input_can_be_fed_in_steps(team):
    team.start()
    stream = _core.Stream()
    items = iter(range(10))
    put = 0
    exhausted = False
    while not exhausted:
        more, exhausted = team.crew.submit_pieces(False, square, items, 2, stream, first=put, limit=2)
        assert more <= 2
        put += more
        assert team.crew.wait_room(1, 1 << 20, PATIENCE)
        assert team.crew.load()[0] <= 1
    assert list(stream) == [[0, 1], [4, 9], [16, 25], [36, 49], [64, 81]]


def measure_after(event, data):
    event.wait()
    return len(data)


def test_there_is_room_for_the_least_however_large(team):
    event = FORK.Event()
    team.start(2)
    receivers = [team.submit(measure_after, event, b"x" * 5000) for _ in range(3)]
    assert not team.crew.wait_room(3, 15000, 0)
    assert not team.crew.wait_room(3, 15000, 0, least=2)
    assert team.crew.wait_room(3, 15000, 0, least=3)
    assert not team.crew.wait_room(2, 15000, 0, least=3)
    event.set()
    assert team.crew.wait_room(3, 15000, PATIENCE)
    assert [receiver.get(PATIENCE) for receiver in receivers] == [5000] * 3


@pytest.mark.parametrize("kind", [list, tuple])
def test_a_sequence_can_be_fed_in_steps(team, kind):
    team.start()
    items = kind(range(10))
    receiver = _core.Receiver()
    receiver.expect_list(10, 3)
    steps = [team.crew.submit_pieces(False, square, items, 3, receiver, first=first, limit=2) for first in (0, 2)]
    assert steps == [(2, False), (2, True)]
    assert receiver.get(PATIENCE) == [x * x for x in range(10)]


def test_workers_have_what_was_put_when_the_input_waits_for_them(team):
    team.start()
    stream = _core.Stream()

    def items():
        yield 3
        yield stream.next(PATIENCE)

    team.crew.submit_pieces(False, square, items(), 1, stream)
    assert list(stream) == [81]


def test_set_pieces_ends_a_list_early(team):
    team.start()
    receiver = _core.Receiver()
    receiver.expect_list(10, 2)
    assert team.crew.submit_pieces(False, square, iter(range(4)), 2, receiver, limit=2) == (2, False)
    assert receiver.remaining in (3, 4, 5)
    receiver.set_pieces(2)
    assert receiver.get(PATIENCE)[:4] == [0, 1, 4, 9]
