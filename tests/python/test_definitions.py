"""``_core.Definitions``: whether names still mean what they did."""
import gc
import types
import weakref

import pytest

from mpfast import _native

Definitions = _native.native("Definitions")
pytestmark = pytest.mark.skipif(Definitions is None, reason="needs the native part")


class Base:
    def method(self):
        pass


def derived():
    return type("Derived", (Base,), {})


def other(self=None):
    pass


@pytest.mark.parametrize("change", (
    lambda cls: setattr(cls, "method", other),
    lambda cls: setattr(cls, "absent", other),
    lambda cls: setattr(cls, "__bases__", (type("Unrelated", (), {}),)),
    lambda cls: setattr(cls, "__bases__", (type("Between", (Base,), {"method": other}),)),
), ids=("overridden", "added", "another base", "a base between"))
def test_names_of_a_class(change):
    cls = derived()
    definitions = Definitions(((cls, "method"), (cls, "absent")))
    assert definitions.hold() is True
    cls.something_else = None
    assert definitions.hold() is True
    change(cls)
    assert definitions.hold() is False


def test_a_name_of_a_base_is_replaced_and_put_back(monkeypatch):
    definitions = Definitions(((derived(), "method"),))
    monkeypatch.setattr(Base, "method", other)
    assert definitions.hold() is False
    monkeypatch.undo()
    assert definitions.hold() is True


def test_names_of_a_module():
    module = types.ModuleType("module")
    module.function = len
    definitions = Definitions(((vars(module), "function"), (vars(module), "absent")))
    assert definitions.hold()
    module.absent = None
    assert not definitions.hold()
    del module.absent
    assert definitions.hold()
    del module.function
    assert not definitions.hold()


def test_an_instance_has_a_name_for_itself():
    definitions = Definitions(((Base, "method"), (Base, "absent")))
    first, second = Base(), Base()
    assert definitions.hold(first, second)
    second.something_else = None
    assert definitions.hold(first, second)
    second.absent = None
    assert not definitions.hold(first, second) and definitions.hold(first) and definitions.hold()
    with pytest.raises(AttributeError):
        definitions.hold(first, object())


def test_what_names_meant_lives_on():
    # An object at the address of one that is gone would be taken for it.
    module = types.ModuleType("module")
    module.function = type("Function", (), {})()
    reference = weakref.ref(module.function)
    definitions = Definitions(((vars(module), "function"),))
    del module.function
    gc.collect()
    assert reference() is not None and not definitions.hold()
    del definitions
    assert reference() is None


def test_cycles_are_collected(code):
    # In an interpreter without threads: some free-threaded builds keep every class for ever once there was one.
    assert code("""
import gc
import weakref
from mpfast._native import native

class Class:
    def method(self):
        pass

Class.definitions = native("Definitions")(((Class, "method"),))
reference = weakref.ref(Class)
del Class
gc.collect()
print(reference())
""") == "None\n"


@pytest.mark.parametrize("names", (
    [], None, (1,), ((Base,),), ((Base, 1),), ((1, "method"),), (("method", Base),), ((Base, "method", None),)))
def test_what_is_no_tuple_of_places_and_names(names):
    with pytest.raises(TypeError):
        Definitions(names)


def test_no_names_hold():
    assert Definitions(()).hold() is True
