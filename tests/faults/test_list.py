"""A list whose users are killed: it stays consistent, and what was acknowledged is there."""
import pathlib
import random
import re
import signal

import pytest

import mpfast
from .crew import KILLS, LONG, Words, figures
from .test_dict import number_of, value_of

SOURCE = pathlib.Path(__file__).resolve().parents[2] / "src" / "containers"
LIST_SOURCES = ["container.c", "container.h", "datum.c", "list.c", "list_update.c", "row.c"]
NTH = (1, 2, 3, 5, 7, 20) if KILLS >= 1000 else (1, 4)

USERS = 3
OWN = 8  # places of each user

spawn = mpfast.get_context("spawn")


def user(shared, begun, done, appended):
    def work(me):
        draw = random.Random()
        i = me * OWN + draw.randrange(OWN)
        number = draw.randrange(3000)
        begun[i] = number
        shared[i] = value_of(number)
        done[i] = number
        shared.append(value_of(number))
        appended[me] += 1
        if draw.randrange(20) == 0:
            shared.extend([number, number])
            shared[USERS * OWN:] = [number, number]
        assert len(shared) >= USERS * OWN
        number_of(shared[draw.randrange(USERS * OWN)])
    return work


def check(shared, begun, done):
    contents = shared[:]
    for i in range(USERS * OWN):
        found = number_of(contents[i])
        assert found in (done[i], begun[i]), (i, found, done[i], begun[i])
    assert len(contents) == len(shared)
    for item in contents:
        number_of(item)


def test_kills_of_list(crew):
    shared = mpfast.SharedList([0] * (USERS * OWN))
    begun, done, appended = Words(USERS * OWN), Words(USERS * OWN), Words(USERS)
    team = crew(user(shared, begun, done, appended), USERS)
    team.kill_many()
    team.finish()
    check(shared, begun, done)


def test_every_appended_item_is_there(crew):
    shared = mpfast.SharedList()
    begun, appended = Words(USERS), Words(USERS)

    def work(me):
        begun[me] += 1
        shared.append((me, begun[me], "x" * (begun[me] % 40)))
        appended[me] = begun[me]

    team = crew(work, USERS)
    team.kill_many()
    team.finish()
    seen = {me: [] for me in range(USERS)}
    for me, number, text in shared:
        assert text == "x" * (number % 40)
        seen[me].append(number)
    for me, numbers in seen.items():
        assert numbers == sorted(set(numbers)), "an item is there twice, or out of order"
        # a killed append is there or not; one that was acknowledged is
        missing = set(range(1, begun[me] + 1)) - set(numbers)
        assert len(missing) <= KILLS
        assert appended[me] in numbers


def points():
    return sorted({point for name in LIST_SOURCES
                   for point in re.findall(r'MPF_FAULT\("([^"]+)"\)', (SOURCE / name).read_text())})


def use_everything(shared):
    for i in range(40):
        shared.append(value_of(i))
        shared.insert(i // 2, value_of(i + 1))
    shared[3] = value_of(4)
    shared[5:9] = [value_of(i) for i in range(10)]
    shared[::7] = [value_of(i) for i in range(len(shared[::7]))]
    shared.reverse()
    shared.sort(key=number_of)
    del shared[10:30:2]
    del shared[20]
    shared.pop(0)
    shared += [value_of(i) for i in range(5)]
    shared *= 2
    while len(shared) > 5:
        shared.pop()
    shared._transact(lambda copy: copy.append(value_of(2)))
    shared.clear()


@pytest.mark.skipif(not mpfast._core.DEBUG, reason="fault points are in the debug build only")
@pytest.mark.parametrize("point", points())
def test_killed_at(point, no_leak, monkeypatch):
    for nth in NTH:
        shared = mpfast.SharedList()
        child = spawn.Process(target=use_everything, args=(shared,))
        monkeypatch.setenv("MPFAST_FAULT", f"{point}:{nth}:kill")
        child.start()
        monkeypatch.delenv("MPFAST_FAULT")
        child.join(LONG)
        assert child.exitcode in (0, -signal.SIGKILL)
        figures()
        contents = shared.copy()
        assert len(contents) == len(shared)
        for item in contents:
            number_of(item)
        use_everything(shared)
        assert shared == []
        del shared, child
