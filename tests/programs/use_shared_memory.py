"""SharedMemory and ShareableList: created here, changed in another process, unlinked."""
import multiprocessing
import sys
from multiprocessing import shared_memory


def change(name, list_name):
    memory = shared_memory.SharedMemory(name=name)
    memory.buf[:5] = b"child"
    memory.close()
    items = shared_memory.ShareableList(name=list_name)
    items[0] = 42
    items[2] = "short"
    items.shm.close()


def main():
    memory = shared_memory.SharedMemory(create=True, size=100)
    items = shared_memory.ShareableList([1, 2.5, "longer text", b"bytes", None, True])
    try:
        memory.buf[:10] = b"0123456789"
        p = multiprocessing.Process(target=change, args=(memory.name, items.shm.name))
        p.start()
        p.join()
        print(bytes(memory.buf[:10]), memory.size >= 100, p.exitcode)
        print(list(items), len(items), items.count(42), items.index(None), items.format)
        try:
            items[2] = "far too long for the place that was kept for it"
        except ValueError as exc:
            print("ValueError:", exc)
    finally:
        items.shm.close()
        items.shm.unlink()
        memory.close()
        memory.unlink()
    try:
        shared_memory.SharedMemory(name=memory.name)
    except FileNotFoundError:
        print("gone")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        multiprocessing.set_start_method(sys.argv[1])
    main()
