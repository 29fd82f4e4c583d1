"""The input of maps: how far ahead it is read, and by whom.

What cannot block, the builtin sequences, is read by the caller at once as far as memory allows.  Anything else is read by a
thread that lives as long as there is more to read, because an iterator may wait for whatever it likes, results of earlier
items included.  In both cases no more than a certain amount is in shared memory at a time.
"""
MOST_TASKS = 1 << 16  # unresolved at a time, while there is input left
MOST_BYTES = 16 << 20  # more would not be faster: shared memory that is new costs more than what is used again
LEAST_TASKS = 2  # for each worker, however large
CALLER_TASKS = 1 << 14  # that an asynchronous call puts before it returns
CALLER_BYTES = 64 << 20
FIRST_STEP = 4  # pieces put between two looks at how much there is
LONGEST_STEP = 4096

#: Types of which reading an object runs no code of the program.
SEQUENCES = frozenset([list, tuple, range, str, bytes, bytearray, set, frozenset, dict])


def cannot_block(iterable):
    """Whether reading *iterable* runs no code of the program."""
    return type(iterable) in SEQUENCES


def put_at_once(supervisor, star, func, iterable, chunksize, receiver, timeout, failed):
    """Put all of an input that is no more than an Input's first step.  Returns whether it was, and there was room for it.

    The arguments are those of Input, but for *failed*, a function (receiver, exception).  It takes five functions less, which
    counts behind a fork: each is a few pages to copy.
    """
    if type(iterable) not in SEQUENCES or len(iterable) > chunksize * FIRST_STEP or supervisor.failure is not None:
        return False
    unresolved, size = supervisor.crew.load()
    if unresolved >= MOST_TASKS or size >= MOST_BYTES:
        return False
    try:
        supervisor.crew.submit_pieces(star, func, iterable, chunksize, receiver, 0, FIRST_STEP, timeout)
    except Exception as error:
        failed(receiver, supervisor.failure or error)  # a crew that has failed meanwhile takes no more
    if supervisor.heard or supervisor.failure is not None:
        supervisor.put(receiver)
    return True


class Input:
    """The items of one map on their way to the workers.

    supervisor: of the pool; star: whether items are unpacked; func, iterable, chunksize, timeout (seconds or None): as given to
    the map; receiver: gets the results; failed: function (exception) that tells the receiver that the input ended with it.
    """

    def __init__(self, supervisor, star, func, iterable, chunksize, receiver, timeout, failed):
        self._supervisor = supervisor
        self._crew = supervisor.crew
        self._star = star
        self._func = func
        self._iterator = iterable
        self._chunksize = chunksize
        self._receiver = receiver
        self._timeout = timeout
        self._failed = failed
        self._put = 0
        self._step = FIRST_STEP if cannot_block(iterable) else 1
        self._growing = self._step > 1
        self._left = True
        self._least = LEAST_TASKS * supervisor.processes

    def read(self, tasks=MOST_TASKS, data=MOST_BYTES):
        """Put pieces until there are so many unresolved *tasks* or bytes of *data*, and enough for every worker.

        Returns whether there is more.
        """
        self._start()
        while self._left and self._room(tasks, data):
            self._put_some(self._step)
            if self._growing:
                self._step = min(2 * self._step, LONGEST_STEP)
        return self._left

    def read_all(self):
        """Put everything, waiting for room in between."""
        while self.read():
            self._crew.wait_room(MOST_TASKS // 2, MOST_BYTES // 2, least=self._least - 1)

    def read_until(self, items):
        """Put pieces until so many *items* were read.  Returns whether there is more."""
        self._start()
        while self._left and self._put * self._chunksize < items:
            self._put_some(1)
        return self._left

    def read_in_background(self):
        """Put everything from a thread of its own, where whatever ends it is the input's error."""
        self._supervisor.read_in_background(self._read_or_fail)

    def _read_or_fail(self):
        try:
            self.read_all()
        except BaseException as error:
            if not self._left:
                raise
            self._end(error)

    def _start(self):
        if self._put == 0 and type(self._iterator) not in (list, tuple) and not hasattr(self._iterator, "__next__"):
            try:
                self._iterator = iter(self._iterator)
            except Exception as error:
                self._end(error)

    def _room(self, tasks, data):
        unresolved, size = self._crew.load()
        if size > data // 8:
            self._step = max(1, min(self._step, unresolved * (data - size) // max(1, size)))
            self._growing = False
        return unresolved < tasks and (size < data or unresolved < self._least)

    def _put_some(self, limit):
        if self._supervisor.failure is not None:
            self._end(self._supervisor.failure)
            return
        try:
            put, exhausted = self._crew.submit_pieces(self._star, self._func, self._iterator, self._chunksize,
                                                      self._receiver, self._put, limit, self._timeout)
        except Exception as error:
            self._end(self._supervisor.failure or error)  # a crew that has failed meanwhile takes no more
        else:
            self._put += put
            if exhausted:
                self._end(None)

    def _end(self, error):
        self._left = False
        self._iterator = self._func = None
        if error is not None:
            self._failed(error)
        receiver = self._receiver
        self._receiver = None
        self._supervisor.put(receiver)
