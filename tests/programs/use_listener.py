"""Listener and Client: authenticated messages over a Unix socket and over TCP."""
import multiprocessing
import sys
from multiprocessing.connection import Client, Listener


def call(address, authkey, numbers):
    with Client(address, authkey=authkey) as conn:
        for number in numbers:
            conn.send(number)
        conn.send(None)
        print("client got", conn.recv(), flush=True)


def call_wrongly(address):
    try:
        Client(address, authkey=b"wrong")
    except multiprocessing.AuthenticationError:
        print("client refused", flush=True)


def main():
    for family in ("AF_UNIX", "AF_INET"):
        address = ("localhost", 0) if family == "AF_INET" else None
        with Listener(address, family, authkey=b"secret") as listener:
            p = multiprocessing.Process(target=call, args=(listener.address, b"secret", [1, 2, 3]))
            p.start()
            with listener.accept() as conn:
                total = sum(iter(conn.recv, None))
                conn.send(total)
                p.join()
            print(family, total, p.exitcode)
            sys.stdout.flush()
            p = multiprocessing.Process(target=call_wrongly, args=(listener.address,))
            p.start()
            try:
                listener.accept()
            except multiprocessing.AuthenticationError as exc:
                p.join()
                print("AuthenticationError:", exc)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        multiprocessing.set_start_method(sys.argv[1])
    main()
