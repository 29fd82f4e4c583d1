"""Includes point downward only, and only the layers that know Python include its headers."""
import pathlib
import re

import pytest

SOURCE = pathlib.Path(__file__).resolve().parent.parent / "src"

MAY_INCLUDE = {
    "module": {"objects", "engine", "containers", "transport", "codec", "sync", "memory", "platform"},
    "objects": {"objects", "engine", "containers", "transport", "codec", "sync", "memory", "platform"},
    "engine": {"engine", "transport", "sync", "memory", "platform"},
    "containers": {"containers", "sync", "memory", "platform"},
    "transport": {"transport", "sync", "memory", "platform"},
    "codec": {"codec", "memory", "platform"},
    "sync": {"sync", "memory", "platform"},
    "memory": {"memory", "platform"},
    "platform": {"platform"},
}
KNOW_PYTHON = {"module", "objects", "codec"}
PYTHON_HEADERS = {"Python.h", "structmember.h", "frameobject.h"}

FILES = sorted(path.relative_to(SOURCE) for path in SOURCE.rglob("*.[ch]"))
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^">]+)[">]', re.MULTILINE)


def layer_of(path):
    return path.parts[0] if len(path.parts) > 1 else path.stem


def includes(path):
    return INCLUDE.findall((SOURCE / path).read_text())


@pytest.mark.parametrize("path", FILES, ids=str)
def test_layer(path):
    layer = layer_of(path)
    assert layer in MAY_INCLUDE, f"{path} is in no layer"
    for header in includes(path):
        if header in PYTHON_HEADERS:
            assert layer in KNOW_PYTHON, f"{path} includes {header}"
            continue
        if (SOURCE / header).exists():
            assert pathlib.Path(header).parts[0] in MAY_INCLUDE[layer], f"{path} includes {header}"
        else:
            assert not (SOURCE / path.parent / header).exists(), f"{path}: name {header} from src/, not beside the file"


def test_there_are_files_to_check():
    assert pathlib.Path("module.c") in FILES
