"""Counting system calls in what strace prints."""
import pytest

from benchmarks import counters

MARK_LINE = '7 write(987654, "benchmark-mark", 14) = -1 EBADF (Bad file descriptor)\n'


def test_calls_of_all_threads_between_the_marks_count_once():
    lines = ["7 getpid() = 7\n", MARK_LINE, "7 futex(0x1, FUTEX_WAIT <unfinished ...>\n", "8 getpid() = 8\n",
             "7 <... futex resumed>) = 0\n", "8 --- SIGCHLD {si_signo=SIGCHLD} ---\n", "8 +++ exited with 0 +++\n",
             MARK_LINE, "7 exit_group(0) = ?\n"]
    assert counters.count_between_marks(lines) == 2


def test_a_missing_mark_is_an_error():
    with pytest.raises(ValueError, match="1 marks"):
        counters.count_between_marks([MARK_LINE])


def test_mark_is_what_the_log_shows():
    assert counters.MARK.decode() in MARK_LINE and str(counters.NO_DESCRIPTOR) in MARK_LINE
