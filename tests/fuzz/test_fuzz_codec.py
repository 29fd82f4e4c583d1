"""The libFuzzer target of the codec, built with sanitizers and run for a fixed number of inputs."""
import os
import pathlib
import shutil
import subprocess
import sysconfig

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SEEDS = [None, 5, -10**30, 1.5, "text", "ünï", "€" * 3, "😀", b"bytes", (1, [2, {3}], {"k": frozenset([4])}), bytearray(b"x"), len,
         [{f"key_{i}": i for i in range(4)} for _ in range(5)]]


def link_arguments():
    """How to link with this interpreter's library, or a skip where it has none."""
    variable = sysconfig.get_config_var
    folder, version = variable("LIBDIR"), variable("LDVERSION")
    names = [name for name in (f"libpython{version}.so", f"libpython{version}.a") if os.path.exists(f"{folder}/{name}")]
    if not names:
        pytest.skip("this interpreter has no library to embed it by")
    return [f"{folder}/{names[0]}", f"-Wl,-rpath,{folder}", *variable("LIBS").split(), *variable("SYSLIBS").split(),
            *variable("LINKFORSHARED").split()]


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    clang = shutil.which("clang") or pytest.skip("there is no clang")
    folder = tmp_path_factory.mktemp("fuzz")
    probe = folder / "probe.c"
    probe.write_text("int LLVMFuzzerTestOneInput(const char *p, unsigned long n) { return p && n ? 0 : 0; }\n")
    if subprocess.run([clang, "-fsanitize=fuzzer,address,undefined", probe, "-o", folder / "probe"], capture_output=True).returncode:
        pytest.skip("this clang has no libFuzzer")
    subprocess.run([clang, "-g", "-O1", "-std=gnu11", "-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=undefined",
                    "-I", ROOT / "src", "-I", sysconfig.get_path("include"), *sorted(ROOT.glob("src/codec/*.c")),
                    ROOT / "src/platform/copy.c", ROOT / "src/platform/heap.c", ROOT / "tests/fuzz/fuzz_codec.c",
                    *link_arguments(), "-o", folder / "fuzz_codec"], check=True)
    return folder / "fuzz_codec"


def test_decode(target, tmp_path):
    core = pytest.importorskip("mpfast._core")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for n, seed in enumerate(SEEDS):
        (corpus / f"{n}").write_bytes(core._encode(seed))
        (corpus / f"{n}s").write_bytes(core._encode([seed, seed, {"a": seed}]))
    environment = dict(os.environ, PYTHONMALLOC="malloc", ASAN_OPTIONS="detect_leaks=0", PYTHONHOME=sysconfig.get_config_var("prefix"))
    done = subprocess.run([target, "-runs=30000", "-max_len=512", "-rss_limit_mb=4096", "-seed=1", corpus], env=environment, cwd=tmp_path,
                          capture_output=True, text=True, errors="replace", timeout=600)
    assert done.returncode == 0, done.stderr[-4000:]
