"""Every name that a function reads is there: type checkers do not look, as shapes in annotations are names to them."""

import builtins
import dis
import importlib
import pkgutil
from types import CodeType

import pytest

import evenreel

MODULES = [one.name for one in pkgutil.walk_packages(evenreel.__path__, "evenreel.")]


def undefined(code, known):
    """Names of globals that a code object, or one inside it, reads and that are not there."""
    for instruction in dis.get_instructions(code):
        if instruction.opname == "LOAD_GLOBAL" and instruction.argval not in known:
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from undefined(constant, known)


def test_every_name_is_there():
    found = {}
    for name in MODULES:
        if name.endswith("__main__"):
            continue
        try:
            module = importlib.import_module(name)
        except ImportError as error:
            if (error.name or "").startswith("evenreel"):
                raise
            continue  # an extra that is not installed
        with open(module.__file__, "rb") as file:  # noqa: PTH123
            code = compile(file.read(), module.__file__, "exec")
        if missing := sorted(set(undefined(code, vars(module).keys() | vars(builtins).keys()))):
            found[name] = missing
    assert found == {}


def test_it_would_be_seen():
    code = compile("def one():\n    return [nowhere for _ in range(2)]", "one", "exec")
    assert list(undefined(code, vars(builtins))) == ["nowhere"]
    with pytest.raises(NameError):
        exec(compile("nowhere", "one", "exec"))  # noqa: S102
