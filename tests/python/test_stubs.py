"""The type stubs agree with what is there."""
import subprocess
import sys

import pytest
from conftest import ROOT, child_environment


def test_stubs():
    pytest.importorskip("mypy.stubtest")
    import mpfast
    if not mpfast.doctor().native:
        pytest.skip("the stubs tell of native classes")
    done = subprocess.run([sys.executable, "-m", "mypy.stubtest", "mpfast", "--concise"], cwd=ROOT, capture_output=True,
                          text=True, timeout=300, env=child_environment())
    assert done.returncode == 0, done.stdout + done.stderr
