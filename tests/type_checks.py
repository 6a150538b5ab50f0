"""Types are checked at run time by beartype, and shapes by jaxtyping around it; by jaxtyping only where there are any.

jaxtyping binds the arguments of every call to a signature, to know what the names in shapes stand for. That takes as
long as a hundred checks, and of most functions no annotation has a shape.
"""

import inspect
import typing
from typing import Any

import jaxtyping
from beartype import BeartypeConf, beartype
from jaxtyping import TypeCheckError, _decorator

_with_shapes = _decorator.jaxtyped
_TYPES = beartype(conf=BeartypeConf(violation_type=TypeCheckError))
"""Raises what jaxtyping raises, which is a TypeError."""


def _checked(fn: Any = None, **options: Any) -> Any:
    """Stand in for `jaxtyping.jaxtyped`, which the import hook puts before every function and class."""
    if fn is None:
        return lambda decorated: _checked(decorated, **options)
    if inspect.isfunction(fn) and not any(map(_may_have_shape, fn.__annotations__.values())):
        return _TYPES(fn)
    return _with_shapes(fn, **options)


def _may_have_shape(annotation: Any) -> bool:
    """Tell whether some part of an annotation is jaxtyping's, or is a name that is not known yet."""
    if isinstance(annotation, str | typing.ForwardRef | typing.TypeVar):
        return True
    if isinstance(annotation, list | tuple):  # the arguments of a Callable
        return any(map(_may_have_shape, annotation))
    return type(annotation).__module__.startswith("jaxtyping") or any(
        map(_may_have_shape, typing.get_args(annotation))
    )


def install() -> None:
    """Do so for all modules that are imported from now on."""
    # the first for the hook, the second for what jaxtyping decorates within classes
    jaxtyping.jaxtyped = _decorator.jaxtyped = _checked
