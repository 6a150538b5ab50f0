"""Write src/evenreel/settings/keywords.py anew: what `evenreel.edit` and `evenreel.generate` take, for type checkers.

Run it after a field of settings was added or changed (`./scripts/check --fix` does); a test compares.
"""

import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from evenreel.settings.edits import EditSettings
from evenreel.settings.fields import Leaf, groups, leaves
from evenreel.settings.runs import GenerateSettings, RunSettings

TARGET = Path(__file__).parents[1] / "src" / "evenreel" / "settings" / "keywords.py"
CLASSES = {"EditKeywords": EditSettings, "GenerateKeywords": GenerateSettings}
LENGTH = 110
"""Characters after which the formatter breaks a line."""
HEAD = '''"""Keywords of `evenreel.edit` and `evenreel.generate`, for type checkers and completion.

Written by scripts/keywords.py from the fields of settings, which alone say what there is; not to be changed by hand.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, TypedDict

from evenreel.settings.uses import AdapterUse, ControlUse, RegionUse
'''


def shown(hint: Any) -> str:
    """A type as a caller writes it: sequences where settings keep tuples of any length."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " | ".join(dict.fromkeys(map(shown, inner)))
    if origin is Literal:
        return f"Literal[{', '.join(map(repr, inner))}]".replace("'", '"')
    if origin is tuple and inner[1:] == (...,):
        return f"Sequence[{shown(inner[0])}]"
    if origin is not None:
        name = {Mapping: "Mapping", Sequence: "Sequence"}.get(origin, getattr(origin, "__name__", ""))
        return f"{name.replace('_', '')}[{', '.join(map(shown, inner))}]"
    return "None" if hint is type(None) else hint.__name__


def keyword(leaf: Leaf, kind: type[RunSettings]) -> str:
    """The line of one keyword."""
    hint = shown(leaf.hint)
    one = hint.removesuffix(" | None")
    told = [one, f"Sequence[{hint}]"] if leaf.several else [one]
    group = next((group for group in groups(kind) if group.name == leaf.name), None)
    if group is not None:
        told.append(f"Sequence[{group.kind.__name__}]" if group.several else group.kind.__name__)
    hint = " | ".join(told + ["None"] * (group is not None or hint != one))
    line = f"    {leaf.name}: {hint}\n"
    return line if len(line) <= LENGTH else f"    {leaf.name}: (\n        {hint}\n    )\n"


def written() -> str:
    """The whole file."""
    text = HEAD
    for name, kind in CLASSES.items():
        lines = [keyword(leaf, kind) for leaf in leaves(kind) if leaf.name != "prompt"]
        text += f"\n\nclass {name}(TypedDict, total=False):\n"
        text += f'    """The fields of `{kind.__name__}`, written flat."""\n\n'
        text += "".join(lines)
    return text


if __name__ == "__main__":
    TARGET.write_text(written(), encoding="utf-8")
