"""``mpfast.doctor()`` and ``python -m mpfast doctor``."""
import mpfast


def test_report_in_this_process():
    report = mpfast.doctor()
    names = [feature.name for feature in report.features]
    assert "synchronize.Lock" in names and "concurrent.futures.process.ProcessPoolExecutor" in names
    assert len(names) == len(set(names))
    assert report.versions["mpfast"] == mpfast.__version__
    for feature in report.features:
        assert feature.native or feature.why, feature
        assert feature.name in str(report)
    assert report.native is (report.why == "")


def test_it_tells_what_is_handed_out(code):
    assert code("""
import mpfast, mpfast.synchronize, multiprocessing.synchronize
for feature in mpfast.doctor().features:
    module, _, name = feature.name.partition(".")
    if module == "synchronize":
        ours, stdlib = getattr(mpfast.synchronize, name), getattr(multiprocessing.synchronize, name)
        assert feature.native == (ours is not stdlib), feature
""") == ""


def test_switched_off(python):
    done = python("-m", "mpfast", "doctor", MPFAST_DISABLE="1")
    assert done.returncode == 1
    assert "MPFAST_DISABLE is set" in done.stdout and "To mend it: unset MPFAST_DISABLE." in done.stdout


def test_without_extension(code):
    said = code("import sys; sys.modules['mpfast._core'] = None; import mpfast; print(mpfast.doctor())")
    assert "the extension cannot be loaded" in said and "install a C compiler" in said


def test_kernel_features(code):
    assert code("""
import sys, types
core = types.ModuleType("mpfast._core")
core.probe = lambda: {"memfd": (True, ""), "futex_waitv": (False, "Function not implemented")}
sys.modules["mpfast._core"] = core
import mpfast
report = mpfast.doctor()
print(report.native, *[(feature.name, feature.native) for feature in report.features if "kernel" in feature.name])
print("Function not implemented (slower without it)" in str(report))
""") == "True ('kernel: memfd', True) ('kernel: futex_waitv', False)\nTrue\n"


def test_usage(python):
    done = python("-m", "mpfast", "doctor", "who")
    assert done.returncode == 2 and done.stderr.startswith("usage:")
