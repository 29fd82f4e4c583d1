"""Pipe and connection.wait: both directions, bytes, end of file, several at once, a connection through a connection."""
import multiprocessing
import sys
from multiprocessing import connection


def echo(conn):
    for message in iter(conn.recv, "stop"):
        conn.send((type(message).__name__, message))


def echo_bytes(conn):
    for _ in range(3):
        conn.send_bytes(conn.recv_bytes()[::-1])
    conn.close()


def announce(conn, number):
    conn.send(number * number)
    conn.close()


def use_sent_connection(conn):
    other = conn.recv()
    other.send("through the sent one")
    other.close()


def main():
    here, there = multiprocessing.Pipe()
    p = multiprocessing.Process(target=echo, args=(there,))
    p.start()
    there.close()
    for message in (1, "two", [3.0], {"four": (5,)}, None, b"bytes"):
        here.send(message)
        print(here.recv())
    print(here.poll(), here.poll(0.01), here.readable, here.writable, here.closed)
    here.send("stop")
    p.join()
    here.close()
    print(p.exitcode, here.closed)

    here, there = multiprocessing.Pipe()
    p = multiprocessing.Process(target=echo_bytes, args=(there,))
    p.start()
    there.close()
    here.send_bytes(b"abc")
    print(here.recv_bytes())
    here.send_bytes(memoryview(b"0123456789"), 2, 5)
    buffer = bytearray(8)
    print(here.recv_bytes_into(buffer, 1), buffer)
    large = bytes(range(256)) * 4000
    here.send_bytes(large)
    print(here.recv_bytes() == large[::-1])
    try:
        here.recv_bytes()
    except EOFError:
        print("end of file")
    p.join()

    readers = []
    for number in range(4):
        r, w = multiprocessing.Pipe(duplex=False)
        readers.append(r)
        p = multiprocessing.Process(target=announce, args=(w, number))
        p.start()
        w.close()
    got = []
    while readers:
        for r in connection.wait(readers):
            try:
                got.append(r.recv())
            except EOFError:
                readers.remove(r)
    print(sorted(got), [c.join() for c in multiprocessing.active_children()] is not None)

    here, there = multiprocessing.Pipe()
    p = multiprocessing.Process(target=use_sent_connection, args=(there,))
    p.start()
    r, w = multiprocessing.Pipe(False)
    here.send(w)
    w.close()
    print(r.recv())
    p.join()

    r, w = multiprocessing.Pipe(False)
    for attempt in (lambda: r.send(1), w.recv, lambda: w.send_bytes(b"abc", 5), lambda: r.recv_bytes(-1)):
        try:
            attempt()
        except (OSError, ValueError) as exc:
            print(type(exc).__name__, exc)
    w.close()
    try:
        r.recv()
    except EOFError:
        print("EOFError")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        multiprocessing.set_start_method(sys.argv[1])
    main()
