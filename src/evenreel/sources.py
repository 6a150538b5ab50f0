"""What evenreel's own classes say of themselves, read from their source: importing them takes PyTorch, and seconds.

Lists (`evenreel hosts`, `inversions`, `metrics`) take it; whatever is to be used is imported.
"""

import ast
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parent


@dataclass(frozen=True)
class ClassSource:
    """A class as its source has it."""

    doc: str
    """Its docstring, as `inspect.getdoc` gives it."""
    values: Mapping[str, Any]
    """Attributes of the class, its bases' too, that are written down as they are: numbers, texts, tuples of these."""


@cache
def read_class(target: str) -> ClassSource | None:
    """Read the class that an entry point names (`evenreel.hosts.frame:FrameHost`).

    Returns None for one of another package, and for one that is made in another way than by `class`.
    """
    module, _, name = target.partition(":")
    tree = _parsed(module)
    if tree is None:
        return None
    for statement in tree.body:
        if isinstance(statement, ast.ClassDef) and statement.name == name:
            return _class(module, statement)
        if isinstance(statement, ast.ImportFrom) and statement.module and not statement.level:
            for alias in statement.names:
                if name == (alias.asname or alias.name):
                    return read_class(f"{statement.module}:{alias.name}")
    return None


@cache
def _parsed(module: str) -> ast.Module | None:
    package, *parts = module.split(".")
    if package != PACKAGE.name:
        return None
    place = PACKAGE.joinpath(*parts)
    for file in (place.with_suffix(".py"), place / "__init__.py"):
        if file.is_file():
            return ast.parse(file.read_text(encoding="utf-8"))
    return None


def _class(module: str, found: ast.ClassDef) -> ClassSource:
    values: dict[str, Any] = {}
    for base in reversed(found.bases):
        if isinstance(base, ast.Name) and (inherited := read_class(f"{module}:{base.id}")) is not None:
            values |= inherited.values
    for statement in found.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                pass
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                pass
            case _:
                continue
        try:
            values[name] = ast.literal_eval(value)
        except ValueError:
            values.pop(name, None)
    return ClassSource(inspect.cleandoc(ast.get_docstring(found, clean=False) or ""), values)
