"""Process: arguments, names, exit codes, daemons, subclasses, errors in the child."""
import multiprocessing
import os
import sys
import time


def greet(name, punctuation="."):
    print(f"hello {name}{punctuation}", flush=True)


def leave(code):
    sys.exit(code)


def complain():
    raise SystemExit("a message instead of a number")


def sleep():
    time.sleep(1000)


class Doubler(multiprocessing.Process):
    def __init__(self, conn, number):
        super().__init__(name=f"doubler-{number}")
        self.conn = conn
        self.number = number

    def run(self):
        self.conn.send((self.name, self.number * 2, multiprocessing.parent_process().name))
        self.conn.close()


def main():
    p = multiprocessing.Process(target=greet, args=("world",), kwargs={"punctuation": "!"})
    print(p.name, p.pid, p.exitcode, p.is_alive(), p.daemon)
    p.start()
    p.join()
    print(p.exitcode, p.is_alive(), p.pid != os.getpid())

    for code in (0, 3, None, True):
        p = multiprocessing.Process(target=leave, args=(code,))
        p.start()
        p.join()
        print("sys.exit", code, "->", p.exitcode)

    sys.stdout.flush()
    p = multiprocessing.Process(target=complain)
    p.start()
    p.join()
    print("exit with a message ->", p.exitcode)

    p = multiprocessing.Process(target=sleep, daemon=True)
    p.start()
    print("active:", [c is p for c in multiprocessing.active_children()], p.daemon)
    p.join(timeout=0.01)
    print("still alive:", p.is_alive())
    p.terminate()
    p.join()
    print("terminated:", p.exitcode)
    p.close()
    try:
        p.is_alive()
    except ValueError as exc:
        print("ValueError:", exc)

    p = multiprocessing.Process(target=sleep)
    p.start()
    p.kill()
    p.join()
    print("killed:", p.exitcode)

    for number in range(3):
        r, w = multiprocessing.Pipe(duplex=False)
        d = Doubler(w, number)
        d.start()
        w.close()
        print(r.recv())
        d.join()

    try:
        d.start()
    except AssertionError as exc:
        print("AssertionError:", exc)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        multiprocessing.set_start_method(sys.argv[1])
    main()
