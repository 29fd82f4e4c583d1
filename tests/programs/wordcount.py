"""Counts words: lines go through a queue to two workers, which count into a shared array under its lock.

The output does not depend on timing.
"""
import multiprocessing
import random
import sys

WORDS = "lock queue pipe value array pool event barrier manager process worker shared memory signal child parent".split()
INDEX = {word: number for number, word in enumerate(WORDS)}
WORKERS = 2


def make_text(words, seed):
    chooser = random.Random(seed)
    return [" ".join(chooser.choices(WORDS, k=12)) for _ in range(words // 12)]


def count(lines, counts, total):
    for line in iter(lines.get, None):
        words = line.split()
        for word in words:
            with counts.get_lock():
                counts[INDEX[word]] += 1
        with total.get_lock():
            total.value += len(words)


def main():
    words = int(sys.argv[1]) if len(sys.argv) > 1 else 120_000
    text = make_text(words, seed=7)
    lines = multiprocessing.Queue()
    counts = multiprocessing.Array("q", len(WORDS))
    total = multiprocessing.Value("q", 0)
    workers = [multiprocessing.Process(target=count, args=(lines, counts, total)) for _ in range(WORKERS)]
    for worker in workers:
        worker.start()
    for line in text + [None] * WORKERS:
        lines.put(line)
    for worker in workers:
        worker.join()
    print("words", total.value, "lines", len(text))
    for word, times in sorted(zip(WORDS, counts)):
        print(f"{word:10} {times}")
    if sum(counts) != total.value:
        sys.exit("the counts do not agree")


if __name__ == "__main__":
    main()
