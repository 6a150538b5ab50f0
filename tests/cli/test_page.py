"""docs/command-line.md says what programs rely on."""

import re
from pathlib import Path

import evenreel
from evenreel import errors
from evenreel.cli.app import INTERRUPTED

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")


def test_every_variable_is_named():
    files = (ROOT / "src").rglob("*.py")
    read = {name for path in files for name in re.findall(r"EVENREEL_[A-Z_]+[A-Z]", path.read_text("utf-8"))}
    assert read <= set(re.findall(r"EVENREEL_[A-Z_]+[A-Z]", PAGE))


def test_every_exit_status_is_named():
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert {kind.exit_status for kind in kinds} | {0, INTERRUPTED} == set(
        map(int, re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE))
    )
    wrong_usage = {kind.__name__ for kind in kinds if kind.exit_status == 2}
    assert wrong_usage == {"SettingsError", "PluginError"} <= set(evenreel.__all__)
