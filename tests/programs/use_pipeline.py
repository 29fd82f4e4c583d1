"""A word count in three stages over queues, events and a shared total, the way a small tool is written."""
import collections
import multiprocessing
import sys

TEXT = """the quick brown fox jumps over the lazy dog
the dog barks and the fox runs away
over the hills and far away"""


def split_lines(lines, words, readers):
    for line in iter(lines.get, None):
        for word in line.split():
            words.put(word)
    with readers.get_lock():
        readers.value -= 1
        last = readers.value == 0
    if last:
        words.put(None)


def count_words(words, conn, total):
    counts = collections.Counter()
    for word in iter(words.get, None):
        counts[word] += 1
        with total.get_lock():
            total.value += 1
    conn.send(counts)


def main():
    lines, words = multiprocessing.Queue(), multiprocessing.Queue(maxsize=5)
    readers, total = multiprocessing.Value("i", 1), multiprocessing.Value("L", 0)
    r, w = multiprocessing.Pipe(False)
    stages = [multiprocessing.Process(target=split_lines, args=(lines, words, readers), name="split"),
              multiprocessing.Process(target=count_words, args=(words, w, total), name="count")]
    for p in stages:
        p.start()
    for _ in range(20):
        for line in TEXT.splitlines():
            lines.put(line)
    lines.put(None)
    counts = r.recv()
    for p in stages:
        p.join()
    for word, number in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        print(number, word)
    print(total.value, sum(counts.values()))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        multiprocessing.set_start_method(sys.argv[1])
    main()
