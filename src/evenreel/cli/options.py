"""Options made from settings: each field of a settings class is an option, and the string below it is its help."""

import dataclasses
import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import wraps
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer
from rich.markup import escape

from evenreel.cli.spelling import FLAGS
from evenreel.settings import read
from evenreel.settings.changes import options, told_of
from evenreel.settings.fields import Leaf, leaves, members

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]


def option(panel: str, help_text: str, *flags: str, **details: Any) -> Any:
    """Make an option in a group of its help page."""
    return typer.Option(*flags, help=help_text, rich_help_panel=panel, **details)


def takes_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Replace each parameter of a command that is annotated with a settings class by an option for each of its fields.

        @takes_settings
        def edit(clip: Annotated[Path, typer.Argument()], settings: EditSettings) -> None: ...

    The command gets the settings, made from what was told and the defaults of the class.
    """
    hints = get_type_hints(command, include_extras=True)
    parameters: list[inspect.Parameter] = []
    kinds: dict[str, type[Any]] = {}
    for parameter in inspect.signature(command).parameters.values():
        kind = hints[parameter.name]
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            kinds[parameter.name] = kind
            parameters.extend(map(_parameter, leaves(kind)))
        else:
            parameters.append(parameter.replace(annotation=kind))

    @wraps(command)
    def run(**told: Any) -> None:
        for name, kind in kinds.items():
            values = {leaf.name: told.pop(leaf.name) for leaf in leaves(kind)}
            told[name] = read(kind, parsed(kind, values), kind.whose)
        command(**told)

    return _signed(run, parameters)


def takes_changes(
    kind: type,
    recipes: Mapping[str, object],
    *,
    only: Collection[str] | None = None,
    together: bool = False,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Replace the parameter `told` of a command by an option for all (or `only` some) that can be told of settings.

        @takes_changes(AdapterTrainingSettings, {"edits": recipes.adapter("edits")})
        def adapter(data: Annotated[Path, typer.Argument()], told: Mapping[str, Any]) -> None: ...

    The command gets what was told, by name. As defaults the help page shows what the first recipe says, or, where the
    recipes are those of parts that are trained `together`, what most of them say; those that differ follow by name.
    """
    chosen = [leaf for leaf in options(kind) if only is None or leaf.name in only]
    says = {name: told_of(recipe) for name, recipe in recipes.items()}

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(command, include_extras=True)
        parameters: list[inspect.Parameter] = []
        for parameter in inspect.signature(command).parameters.values():
            if parameter.name == "told":
                parameters.extend(_change(leaf, says, together) for leaf in chosen)
            else:
                parameters.append(parameter.replace(annotation=hints[parameter.name]))

        @wraps(command)
        def run(**values: Any) -> None:
            told = {leaf.name: values.pop(leaf.name) for leaf in chosen}
            command(told=_told(chosen, told), **values)

        return _signed(run, parameters)

    return decorate


def _signed(run: Callable[..., None], parameters: Iterable[inspect.Parameter]) -> Callable[..., None]:
    """Let typer see other parameters than a function has."""
    keyword = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    run.__signature__ = inspect.Signature(keyword)  # pyright: ignore[reportAttributeAccessIssue]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in keyword}
    return run


def parsed(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was told of some settings, as values; what was not is left to their defaults."""
    return _told(leaves(kind), values)


def _told(known: Iterable[Leaf], values: Mapping[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for leaf in known:
        value = values[leaf.name]
        if value is not None and value not in ([], ()):
            told[leaf.name] = leaf.option.parse(leaf.name, value) if leaf.option.parse else value
    return told


def _change(leaf: Leaf, says: Mapping[str, Mapping[str, Any]], together: bool) -> inspect.Parameter:
    """The option for a setting whose default is the recipe's."""
    details = typer.Option(
        *_flags(leaf),
        help=escape(leaf.help),
        rich_help_panel=leaf.option.panel,
        metavar=_metavar(leaf),
        show_default=_by_recipe(leaf, says, together),
    )
    return inspect.Parameter(
        leaf.name,
        inspect.Parameter.KEYWORD_ONLY,
        annotation=Annotated[_typed(leaf) | None, details],  # pyright: ignore[reportInvalidTypeForm]
        default=None,
    )


def _by_recipe(leaf: Leaf, says: Mapping[str, Mapping[str, Any]], together: bool) -> str | bool:
    """The default of a setting as the help page shows it."""
    shown = {
        name: leaf.option.default or _in_a_word(values[leaf.name])
        for name, values in says.items()
        if leaf.name in values
    }
    words = list(shown.values())
    usual = max(words, key=words.count) if together else words[0]
    differing = [f"for {name} {word}" for name, word in shown.items() if word != usual]
    return "; ".join([usual, *differing]) if usual else False


def _in_a_word(value: Any) -> str:
    if value is None or value is False:
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _metavar(leaf: Leaf) -> str | None:
    """What stands for the value on the help page: the choices, where there are some."""
    choices = [
        str(one) for member in members(leaf.hint) if get_origin(member) is Literal for one in get_args(member)
    ]
    return leaf.option.metavar or "|".join(choices) or None


def _flags(leaf: Leaf) -> tuple[str, ...]:
    flags = leaf.option.flags or (f"--{leaf.name.replace('_', '-')}",)
    FLAGS[leaf.name] = flags[0]
    return flags


def _parameter(leaf: Leaf) -> inspect.Parameter:
    flags = _flags(leaf)
    required = leaf.default is dataclasses.MISSING
    kind = _typed(leaf)
    if kind is bool and leaf.default:
        flags = (f"{flags[0]}/--no-{flags[0].removeprefix('--')}", *flags[1:])
    details = typer.Option(
        *flags,
        help=escape(leaf.help),
        rich_help_panel=leaf.option.panel,
        metavar=_metavar(leaf),
        show_default=False
        if required
        else str(leaf.default)
        if leaf.several and _shown(leaf) is True
        else _shown(leaf),
    )
    default = (
        inspect.Parameter.empty if required else None if leaf.option.parse or leaf.several else leaf.default
    )
    return inspect.Parameter(
        leaf.name,
        inspect.Parameter.KEYWORD_ONLY,
        annotation=Annotated[kind | None if default is None else kind, details],  # pyright: ignore[reportInvalidTypeForm]
        default=default,
    )


def _shown(leaf: Leaf) -> str | bool:
    says_little = (
        leaf.option.parse is not None or leaf.default is None or leaf.default is False or leaf.default == ""
    )
    return leaf.option.default or not says_little


def _is_pair(hint: Any) -> bool:
    """Whether a type is a tuple of a fixed length, which one word writes."""
    tuples = [member for member in members(hint) if get_origin(member) is tuple]
    return any(get_args(member)[1:] != (...,) for member in tuples)


def _typed(leaf: Leaf) -> Any:
    """What typer is to read: numbers and flags itself, several words as a list, everything else as text."""
    if leaf.option.parse is not None:
        origins = [get_origin(member) for member in members(leaf.hint)]
        several = any(isinstance(origin, type) and issubclass(origin, Mapping | tuple) for origin in origins)
        return list[str] if several and not _is_pair(leaf.hint) else str
    plain = [member for member in members(leaf.hint) if member in (bool, int, float)]
    kind = plain[0] if plain else str
    return list[kind] if leaf.several else kind
