"""Contexts: the start methods side by side in one program, and what belongs to each."""
import multiprocessing
import sys


def report(conn, lock, value):
    with lock:
        value.value += 1
    conn.send((multiprocessing.current_process().name, multiprocessing.current_process().daemon))
    conn.close()


def main():
    print(sorted(multiprocessing.get_all_start_methods()))
    for method in ("fork", "spawn", "forkserver"):
        context = multiprocessing.get_context(method)
        lock, value = context.Lock(), context.Value("i", 0)
        r, w = context.Pipe(False)
        p = context.Process(target=report, args=(w, lock, value), name=f"by-{method}")
        print(context.get_start_method(), type(p).__name__, isinstance(p, multiprocessing.process.BaseProcess))
        p.start()
        w.close()
        print(r.recv(), end=" ")
        p.join()
        print(value.value, p.exitcode)
    try:
        multiprocessing.get_context("no such")
    except ValueError as exc:
        print("ValueError:", exc)
    print(multiprocessing.get_start_method() == (sys.argv[1:] or [multiprocessing.get_start_method()])[0])
    try:
        multiprocessing.set_start_method("spawn")
    except RuntimeError as exc:
        print("RuntimeError:", exc)
    print(multiprocessing.current_process().name, multiprocessing.parent_process(), multiprocessing.cpu_count() >= 1)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        multiprocessing.set_start_method(sys.argv[1])
    main()
