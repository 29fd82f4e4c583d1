"""Pipe, Connection and connection.wait."""
from __future__ import annotations

from benchmarks import observe, payloads
from benchmarks.crew import Crew
from benchmarks.registry import SYSCALLS, add, row, statement


def _pingpong(key, title, make_item, **attributes):
    def setup(impl):
        here, there = impl.fork.Pipe()
        item = make_item()

        def client(n):
            for _ in range(n):
                here.send(item)
                here.recv()

        def server(n):
            for _ in range(n):
                there.send(there.recv())

        with Crew(impl.fork, client, server) as crew:
            yield crew.elapsed
    add(f"pipe.pingpong.{key}", f"Pipe ping-pong {title}", setup, **attributes)


def _one_way(key, title, make_item, **attributes):
    def setup(impl):
        reader, writer = impl.fork.Pipe(duplex=False)
        item = make_item()

        def sender(n):
            for _ in range(n):
                writer.send(item)

        def receiver(n):
            for _ in range(n):
                reader.recv()

        with Crew(impl.fork, sender, receiver) as crew:
            yield crew.elapsed
    add(f"pipe.oneway.{key}", f"Pipe one way: {title}", setup, **attributes)


_pingpong("int", "int", lambda: 1, bar=12, usual=45e-6)
_pingpong("1kib", "1 KiB bytes", lambda: payloads.block(payloads.KIB), bar=12)
_pingpong("1mib", "1 MiB bytes", lambda: payloads.block(payloads.MIB), bar=6, usual=2.8e-3)
_one_way("int", "int", lambda: 1, bar=12, usual=7.5e-6)
_one_way("dict", "1 KiB dict", payloads.small_dict, bar=5, usual=15e-6)
_one_way("1mib", "1 MiB bytes", lambda: payloads.block(payloads.MIB), bar=8, usual=2.2e-3)
_one_way("array", "8 MiB numpy array", lambda: payloads.array(8), bar=10, usual=23e-3)


def _ends(impl):
    one, other = impl.fork.Pipe()
    return {"one": one, "other": other}


def _eight_ends(impl):
    """Eight connections, the last of which has something to read."""
    pipes = [impl.fork.Pipe() for _ in range(8)]
    pipes[-1][1].send(1)
    return {"wait": impl.submodule("connection").wait, "connections": [one for one, _ in pipes], "kept": pipes}


def _context(impl):
    return {"mp": impl.fork}


statement("pipe.poll", "`connection.poll()`", "one.poll()", _ends, bar=10, usual=4.4e-6, instructions=True)
statement("pipe.wait", "`wait` of 8 connections", "wait(connections)", _eight_ends, bar=4, usual=17e-6)
statement("pipe.create", "create a Pipe", "mp.Pipe()", _context, bar=1, usual=14e-6, instructions=True)
statement("pipe.syscalls", "system calls: send+recv", "one.send(1); other.recv()", _ends,
          unit=SYSCALLS, at_most=0, n=1_000, quick_n=10)
statement("pipe.poll.syscalls", "system calls: `poll()`", "one.poll()", _ends,
          unit=SYSCALLS, at_most=0, n=1_000, quick_n=10)


@row("pipe.idle_cpu", "CPU used by a process blocked in `recv()`", unit="CPU s", at_most=0, n=1)
def idle_cpu(impl):
    here, there = impl.fork.Pipe()
    with Crew(impl.fork, lambda n: here.recv()) as crew:
        def run(n):
            crew.start(n)
            try:
                return observe.idle_cpu(crew.pids, settle=impl.size(0.1, 0.05), window=impl.size(0.3, 0.05))
            finally:
                there.send(None)
                crew.collect()
        yield run
