"""Manager: shared containers and primitives, nested ones, a manager of one's own."""
import multiprocessing
import sys
from multiprocessing.managers import BaseManager


def work(number, shared, items, namespace, lock, tasks, event):
    event.wait(30)
    with lock:
        shared[number] = number ** 2
        items.append(number)
        namespace.total += number
    tasks.put(number)


class Calculator:
    def __init__(self, start):
        self.value = start

    def add(self, number):
        self.value += number
        return self.value


class MyManager(BaseManager):
    pass


MyManager.register("Calculator", Calculator)


def main():
    with multiprocessing.Manager() as manager:
        shared, items, namespace = manager.dict(), manager.list([100]), manager.Namespace(total=0)
        lock, tasks, event = manager.Lock(), manager.Queue(), manager.Event()
        processes = [multiprocessing.Process(target=work, args=(i, shared, items, namespace, lock, tasks, event))
                     for i in range(3)]
        for p in processes:
            p.start()
        event.set()
        for p in processes:
            p.join()
        print(sorted(shared.items()), sorted(items), namespace.total, sorted(tasks.get() for _ in range(3)))
        print(shared.get(9, "none"), 1 in shared, len(items), items[0], items[-1:] != [], shared.copy() == dict(shared))
        shared["inner"] = manager.list([1])
        shared["inner"].append(2)
        print(list(shared["inner"]), shared.pop("inner")[1])
        value, array = manager.Value("i", 5), manager.Array("i", [1, 2, 3])
        value.value += 1
        array[1] = 20
        print(value.value, list(array))
        for attempt in (lambda: shared["missing"], lambda: items[99], lambda: namespace.missing):
            try:
                attempt()
            except (KeyError, IndexError, AttributeError) as exc:
                print(type(exc).__name__)
        with manager.Pool(2) as pool:
            print(pool.map(abs, [-1, 2, -3]))
        print(manager.Semaphore(2).acquire(), manager.Condition().acquire(), manager.Barrier(1).wait())
    with MyManager() as mine:
        calculator = mine.Calculator(10)
        print(calculator.add(5), calculator.add(-1))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        multiprocessing.set_start_method(sys.argv[1])
    main()
