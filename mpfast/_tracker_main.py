"""The resource tracker's process: the standard library's, which in the end also unlinks the shared memory that a table names.

This file is run by its path, by an interpreter that need not have this package; it uses the standard library alone.  The table
is that of ``src/platform/names.c``.
"""
import multiprocessing.resource_tracker as _stock
import os
import struct

_KIND = "shared_memory"
_DIRECTORY = "/dev/shm"
_COUNT = 1024
_BYTES = 56


def main(pipe, table):
    """Runs until nobody has the writing end of *pipe*.  table: descriptor of the table."""
    _stock.open = lambda file, mode: _Messages(open(file, mode), table)
    _stock.main(pipe)


def _live(table):
    """The (name, inode) pairs in the table."""
    data = os.pread(table, _COUNT * (8 + _BYTES), 0)
    for place, inode in enumerate(struct.unpack_from(f"{_COUNT}Q", data)):
        if inode > 1:
            name = data[_COUNT * 8 + place * _BYTES:][:_BYTES]
            yield name.partition(b"\0")[0].decode("ascii", "replace"), inode


def _inode(name):
    """Of the file of that name; None if there is none."""
    try:
        return os.stat(_DIRECTORY + name).st_ino
    except (OSError, ValueError):
        return None


def _parse(line):
    """(command, kind, name) of a message."""
    if line.startswith(b"{"):
        return _stock._decode_message(line)
    command, _, rest = line.strip().decode("ascii").partition(":")
    name, _, kind = rest.rpartition(":")
    return command, kind, name


class _Messages:
    """The messages in the pipe, then those that make of what the standard library's tracker knows what it has to unlink."""

    def __init__(self, file, table):
        self._file = file
        self._table = table
        self._told = set()  # names
        self._released = set()  # what is in the table, but not to be unlinked

    def __enter__(self):
        self._file.__enter__()
        return self

    def __exit__(self, *exc_info):
        return self._file.__exit__(*exc_info)

    def __iter__(self):
        for line in self._file:
            try:
                is_ours = self._take_note(*_parse(line))
            except Exception:
                is_ours = False  # the standard library's tracker says what is wrong with it
            if not is_ours:
                yield line
        for name in self._told:
            if _inode(name) is None:  # unlinked by who has not told: the table's users need not
                yield f"UNREGISTER:{name}:{_KIND}\n".encode("ascii")
        for name, inode in _live(self._table):
            if (name, inode) not in self._released and _inode(name) == inode:
                yield f"REGISTER:{name}:{_KIND}\n".encode("ascii")

    def _take_note(self, command, kind, name):
        """Returns whether the message is about the table alone."""
        released = set()
        if kind == _KIND and command == "REGISTER":
            self._told.add(name)
        elif kind == _KIND and command == "UNREGISTER":
            released.update(entry for entry in _live(self._table) if entry[0] == name)
            self._released |= released
            if name in self._told:
                self._told.remove(name)
                return False
        return bool(released)
