"""Which of CPython's test classes prove which part of mpfast, and which of them are quick."""
import re

#: part -> what the classes' names end in (after With{Processes,Manager,Threads}Test or Test); the rest is "process".
GROUPS = {
    "sync": ("Lock", "Semaphore", "Condition", "Event", "Barrier", "SemLockTests", "ForkAwareThreadLock"),
    "values": ("Value", "Array", "SharedCTypes", "Heap"),
    "queue": ("Queue", "SimpleQueue", "Connection", "Listener", "ListenerClient", "Poll", "PollEintr",
              "PicklingConnections", "InvalidHandle", "Wait", "InvalidFamily", "Timeouts", "IgnoreEINTR", "OtherTest",
              "ResourceSharer", "ChallengeResponse"),
    "pool": ("Pool", "PoolWorkerErrors", "PoolWorkerLifetime", "PoolNotLeakOnFailure", "Initializers"),
}

SUITES = {
    "fork": "suite_fork",
    "spawn": "suite_spawn",
    "forkserver": "suite_forkserver",
    "main": "test.test_multiprocessing_main_handling",
    "futures": "test.test_concurrent_futures",
}

#: The quick selection: what a developer runs after each change, and what pytest runs.  (suites, groups)
QUICK = (("fork",), ("sync", "values"))


def bare_name(cls):
    """WithProcessesTestLock, TestLock -> Lock."""
    name = re.sub(r"^With(Processes|Manager|Threads)", "", cls)
    return re.sub(r"^_?Test", "", name)


def group_of(ident):
    """The part that a test id (module:Class.method) belongs to."""
    module, _, rest = ident.partition(":")
    if module.startswith(SUITES["futures"]):
        return "futures"
    if module == SUITES["main"]:
        return "process"
    name = bare_name(rest.split(".")[0])
    for group, names in GROUPS.items():
        if name in names:
            return group
    return "process"


def short_name(ident):
    """A test's name that is the same for every version: suite:Class.method."""
    module, _, rest = ident.partition(":")
    for suite, target in SUITES.items():
        if module == target or module.startswith(target + "."):
            return f"{suite}:{rest}"
    return ident
