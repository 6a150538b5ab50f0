"""How an argument is written on the command line, for errors."""

import re

FLAGS = {"output": "--out"}
"""Names of arguments whose option bears another name; those of settings come in as their options are made."""


def spelled(name: str) -> str:
    """Return the option that sets an argument."""
    if re.fullmatch("[a-z_0-9]+", name) is None:  # a place in a file, a setting of a host
        return name
    return FLAGS.get(name, f"--{name.replace('_', '-')}")
