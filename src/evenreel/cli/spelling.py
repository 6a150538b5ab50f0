"""How an argument is written on the command line, for errors."""

import re
from collections.abc import Mapping
from functools import cache

FLAGS = {"output": "--out"}
"""Names of arguments whose option bears another name; those of settings come in as their options are made."""


def spelled(name: str) -> str:
    """Return the option that sets an argument."""
    if re.fullmatch("[a-z_0-9]+", name) is None:  # a place in a file, a setting of a host
        return name
    return FLAGS.get(name) or _flags_of_runs().get(name) or f"--{name.replace('_', '-')}"


@cache
def _flags_of_runs() -> Mapping[str, str]:
    """Those of edits and of clips made from text: other commands speak of them too, and do not make these options."""
    from evenreel.settings import EditSettings, GenerateSettings
    from evenreel.settings.fields import leaves

    return {
        leaf.name: leaf.option.flags[0]
        for kind in (EditSettings, GenerateSettings)
        for leaf in leaves(kind)
        if leaf.option.flags
    }
