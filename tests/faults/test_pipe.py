"""Pipes whose users are killed."""
import os
import signal
import threading

import pytest

from .crew import LONG, ctx
from .traffic import Traffic


@pytest.mark.parametrize("duplex", [False, True])
def test_kills_of_pipe(crew, duplex):
    reader, writer = ctx.Pipe(duplex)

    traffic = Traffic(writer.send, reader.recv)
    team = crew(traffic.work, 4)
    team.kill_many()
    team.finish(lambda: reader.poll() or writer.send(None))

    def left():
        while reader.poll():
            item = reader.recv()
            if item is not None:
                return item
        return None

    traffic.drain(left)
    traffic.check()


def send_and_die(writer):
    for number in range(100):
        writer.send(number)
    writer.send_bytes(bytes(50_000))
    os.kill(os.getpid(), signal.SIGKILL)


def test_what_was_sent_comes_before_the_end(no_leak):
    reader, writer = ctx.Pipe(False)
    sender = ctx.Process(target=send_and_die, args=(writer,))
    sender.start()
    writer.close()
    assert [reader.recv() for _ in range(100)] == list(range(100))
    assert reader.recv_bytes() == bytes(50_000)
    with pytest.raises(EOFError):
        reader.recv()
    sender.join(LONG)
    assert sender.exitcode == -signal.SIGKILL
    del sender


def wait_to_be_killed(connection, ready):
    ready.set()
    signal.pause()


def test_a_sender_learns_that_the_last_reader_was_killed(no_leak):
    reader, writer = ctx.Pipe(False)
    ready = ctx.Event()
    process = ctx.Process(target=wait_to_be_killed, args=(reader, ready))
    process.start()
    reader.close()
    assert ready.wait(LONG)
    process.kill()
    process.join(LONG)
    with pytest.raises(BrokenPipeError):
        while True:  # a sender that fills the pipe would wait for ever
            writer.send(bytes(10_000))
    del process


def test_a_reader_that_sleeps_learns_that_the_last_writer_was_killed(no_leak):
    reader, writer = ctx.Pipe(False)
    ready = ctx.Event()
    process = ctx.Process(target=wait_to_be_killed, args=(writer, ready))
    process.start()
    writer.close()
    assert ready.wait(LONG)
    assert not reader.poll(0.05)
    process.kill()
    with pytest.raises(EOFError):
        reader.recv()
    process.join(LONG)
    del process


def send_until_it_fails(writer, found):
    try:
        while True:
            writer.send(bytes(100_000))
    except BrokenPipeError as error:
        found.append(error)


def test_a_long_send_that_waits_ends_when_the_reader_closes(no_leak):
    reader, writer = ctx.Pipe(False)
    found = []
    thread = threading.Thread(target=send_until_it_fails, args=(writer, found), daemon=True)
    thread.start()
    assert reader.recv() == bytes(100_000)
    reader.close()
    thread.join(LONG)
    assert not thread.is_alive() and len(found) == 1
