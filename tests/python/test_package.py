"""The package as installed: it imports, and its native part says what it is."""
import importlib

import pytest


def test_import():
    assert importlib.import_module("mpfast").__doc__


def test_native_part():
    core = pytest.importorskip("mpfast._core")
    assert core.DEBUG in (True, False)
