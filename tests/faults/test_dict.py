"""A dict whose users are killed: it stays consistent, and what was acknowledged is there."""
import pathlib
import random
import re
import signal
import time

import pytest

import mpfast
from .crew import KILLS, LONG, Words, figures

SOURCE = pathlib.Path(__file__).resolve().parents[2] / "src" / "containers"
DICT_SOURCES = ["container.c", "container.h", "datum.c", "dict.c", "dict_update.c", "table.c"]
NTH = (1, 2, 3, 5, 7, 20) if KILLS >= 1000 else (1, 4)

USERS = 3
OWN = 8  # keys of each user
GONE = -1

spawn = mpfast.get_context("spawn")


def value_of(number):
    """Short, long, and with a shared object inside; whole or recognisably not."""
    if number % 3 == 0:
        return number
    if number % 3 == 1:
        return [number] * (number % 400 + 2)
    return {"number": number, "lock": mpfast.Lock()}


def number_of(value):
    if value is None:
        return GONE
    if isinstance(value, list):
        assert value == [value[0]] * (value[0] % 400 + 2)
        return value[0]
    if isinstance(value, dict):
        with value["lock"]:
            return value["number"]
    return value


class Bookkeeping:
    """What each user was about to do, and what it has done, to each key of its own."""

    def __init__(self):
        self.begun = Words(USERS * OWN)
        self.done = Words(USERS * OWN)
        for i in range(USERS * OWN):
            self.begun[i] = self.done[i] = GONE

    def check(self, shared):
        contents = shared.copy()
        for i in range(USERS * OWN):
            found = number_of(contents.get(f"own key {i}"))
            assert found in (self.done[i], self.begun[i]), (i, found, self.done[i], self.begun[i])
            self.done[i] = found
        assert len(contents) == len(shared) == len(shared.keys())
        assert all(key in shared for key in contents)
        assert contents["one half"] == contents["other half"], "half of an update"


def user(shared, books):
    def work(me):
        draw = random.Random()
        i = me * OWN + draw.randrange(OWN)
        key = f"own key {i}"
        number = draw.randrange(3000)
        kind = draw.randrange(4)
        books.begun[i] = GONE if kind == 0 else number
        if kind == 0:
            shared.pop(key, None)
        elif kind == 1:
            shared.update({key: value_of(number), "one half": number, "other half": number, f"more {number % 20}": "x" * number})
        else:
            shared[key] = value_of(number)
        books.done[i] = books.begun[i]
        shared.setdefault(f"more {number % 20}", number)
        shared.pop(f"more {number % 30}", None)
        contents = shared.copy()
        assert contents["one half"] == contents["other half"], "half of an update"
        shared[float(number % 5), "tuple"] = me
    return work


def test_kills_of_dict(crew):
    shared, books = mpfast.SharedDict({"one half": 0, "other half": 0}), Bookkeeping()
    team = crew(user(shared, books), USERS)
    for kill in range(KILLS):
        team.kill_one()
        if kill % 5 == 4 or kill == KILLS - 1:
            team.all_go_on()
    team.finish()
    books.check(shared)


def test_kills_one_by_one(crew):
    """With one user there is always a moment at which nobody writes: after each kill everything is looked at."""
    shared, books = mpfast.SharedDict({"one half": 0, "other half": 0}), Bookkeeping()
    team = crew(user(shared, books), 1)
    for _ in range(min(KILLS, 200)):
        team.all_go_on()
        process = team._processes[0]
        time.sleep(team.random.random() * 0.003)
        process.kill()
        process.join(LONG)
        books.check(shared)
        team._processes[0] = team._start(0)
    team.finish()
    books.check(shared)


def points():
    return sorted({point for name in DICT_SOURCES
                   for point in re.findall(r'MPF_FAULT\("([^"]+)"\)', (SOURCE / name).read_text())})


class Key:
    """Compared by the program's own code."""

    def __init__(self, name):
        self.name = name

    def __eq__(self, other):
        return isinstance(other, Key) and self.name == other.name

    def __hash__(self):
        return hash(self.name)


def use_everything(shared):
    for i in range(40):
        shared[i] = value_of(i)
        shared[f"a key that is too long to stand in place {i}"] = "v" * 50
    shared.update({i: value_of(i + 1) for i in range(30)})
    shared |= {"x" * 30: 1, "y": mpfast.SharedDict(a=1)}
    shared[Key("a")] = 1
    for i in range(0, 40, 3):
        del shared[i]
    shared[Key("a")] += 1
    shared.pop(Key("a"))
    while len(shared) > 10:
        shared.popitem()
    shared.setdefault("z", "default" * 9)
    shared._transact(lambda copy: copy.update(b=value_of(2)))
    shared.clear()


@pytest.mark.skipif(not mpfast._core.DEBUG, reason="fault points are in the debug build only")
@pytest.mark.parametrize("point", points())
def test_killed_at(point, no_leak, monkeypatch):
    for nth in NTH:
        shared = mpfast.SharedDict()
        child = spawn.Process(target=use_everything, args=(shared,))
        monkeypatch.setenv("MPFAST_FAULT", f"{point}:{nth}:kill")
        child.start()
        monkeypatch.delenv("MPFAST_FAULT")
        child.join(LONG)
        assert child.exitcode in (0, -signal.SIGKILL)
        figures()
        contents = shared.copy()
        assert len(contents) == len(shared)
        for key, value in contents.items():
            if isinstance(key, int):
                assert number_of(value) in (key, key + 1)
            assert key in shared
        use_everything(shared)
        assert shared == {}
        del shared, child
