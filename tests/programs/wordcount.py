"""Counts words with a pool of workers, and what they did with shared values.

A made-up text is cut into pieces, each worker counts its pieces and adds to a shared total under its lock, and the
parent merges the counts.  The output does not depend on timing.
"""
import multiprocessing
import random
import sys
from collections import Counter

WORDS = "lock queue pipe value array pool event barrier manager process worker shared memory signal child parent".split()


def make_text(words, seed):
    chooser = random.Random(seed)
    return [" ".join(chooser.choices(WORDS, k=12)) for _ in range(words // 12)]


def adopt(shared_total, shared_lines):
    global total, lines
    total, lines = shared_total, shared_lines


def count(piece):
    counter = Counter()
    for number, line in piece:
        words = line.split()
        counter.update(words)
        with total.get_lock():
            total.value += len(words)
        lines[number] = len(words)
    return counter


def main():
    words = int(sys.argv[1]) if len(sys.argv) > 1 else 120_000
    text = make_text(words, seed=7)
    shared_total = multiprocessing.Value("q", 0)
    shared_lines = multiprocessing.Array("i", len(text))
    numbered = list(enumerate(text))
    pieces = [numbered[start:start + 50] for start in range(0, len(numbered), 50)]
    merged = Counter()
    with multiprocessing.Pool(2, adopt, (shared_total, shared_lines)) as pool:
        for counter in pool.imap_unordered(count, pieces):
            merged.update(counter)
    print("words", shared_total.value)
    print("lines", len(text), "sum over lines", sum(shared_lines))
    for word, times in sorted(merged.items()):
        print(f"{word:10} {times}")
    if not sum(merged.values()) == shared_total.value == sum(shared_lines):
        sys.exit("the counts do not agree")


if __name__ == "__main__":
    main()
