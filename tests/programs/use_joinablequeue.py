"""JoinableQueue: join() returns when every item has been worked through."""
import multiprocessing
import sys


def work(tasks, total):
    while True:
        number = tasks.get()
        with total.get_lock():
            total.value += number
        tasks.task_done()


def main():
    tasks = multiprocessing.JoinableQueue()
    total = multiprocessing.Value("l", 0)
    workers = [multiprocessing.Process(target=work, args=(tasks, total), daemon=True) for _ in range(3)]
    for p in workers:
        p.start()
    for round_number in range(3):
        for number in range(100):
            tasks.put(number)
        tasks.join()
        print("round", round_number, "total", total.value)
    try:
        tasks.task_done()
    except ValueError as exc:
        print("ValueError:", exc)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        multiprocessing.set_start_method(sys.argv[1])
    main()
