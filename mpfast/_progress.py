"""How far a map is, shown on standard error: by tqdm where that is installed, as plain text otherwise."""
import importlib
import sys
import time

INTERVAL = 0.1  # seconds between two showings


def bar(total):
    """Returns a progress bar for *total* items (None: not known), with update(items) and close()."""
    try:
        tqdm = importlib.import_module("tqdm.auto").tqdm
    except ImportError:
        return PlainBar(total)
    return tqdm(total=total)


def show(iterable, total):
    """Generator over *iterable* that shows how many of *total* items (None: not known) it has given out."""
    progress = bar(total)
    try:
        for item in iterable:
            yield item
            del item
            progress.update(1)
    finally:
        progress.close()


class PlainBar:
    """Writes "12/100" over itself."""

    def __init__(self, total, file=None):
        self._total = total
        self._file = file or sys.stderr
        self._done = 0
        self._shown_at = 0.0
        self._show()

    def update(self, items):
        self._done += items
        if time.monotonic() >= self._shown_at + INTERVAL:
            self._show()

    def close(self):
        self._show()
        self._file.write("\n")
        self._file.flush()

    def _show(self):
        self._shown_at = time.monotonic()
        self._file.write(f"\r{self._done}" if self._total is None else f"\r{self._done}/{self._total}")
        self._file.flush()
