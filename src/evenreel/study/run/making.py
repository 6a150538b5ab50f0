"""What a study's settings name and is not there yet: made by the commands that the settings hold."""

import shlex
import subprocess
import sys
from pathlib import Path

from evenreel.errors import SettingsError
from evenreel.progress import Progress, silent
from evenreel.study.settings import StudySettings

COMMANDS = (("data", "build"), ("train", "adapter"), ("train", "control"))
"""What may stand in settings: commands that make data and weights, and read nothing but what they are told."""


def make_missing(settings: StudySettings, progress: Progress = silent) -> None:
    """Run the commands of a study's settings, in their order, where a file that it names is not there.

    Each runs as a process of its own, in the folder of the settings; what it has made already it finds again. Raises:
    SettingsError for a command of another kind, and for one that fails.
    """
    commands = [words_of(command) for command in settings.made_by]
    if not commands or all((settings.folder / file).is_file() for file in settings.files if file != "mini"):
        return
    for number, words in enumerate(commands):
        progress("make what is named", number, len(commands))
        _run(words, settings.folder)
    progress("make what is named", len(commands), len(commands))


def words_of(command: str) -> list[str]:
    """Return a command's words, without the name of the program. Raises: SettingsError unless it is one of COMMANDS."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise SettingsError(f"made_by holds {command[:60]!r}, which is not a command ({error}).") from error
    words = words[1:] if words[:1] == ["evenreel"] else words
    if tuple(words[:2]) not in COMMANDS:
        known = ", ".join(" ".join(one) for one in COMMANDS)
        raise SettingsError(f"made_by may hold evenreel's commands {known}, got {command[:60]!r}.")
    return words


def _run(words: list[str], folder: Path) -> None:
    told = [sys.executable, "-m", "evenreel", *words, "--quiet"]
    done = subprocess.run(  # noqa: S603  (this program itself, as words, without a shell)
        told, cwd=folder.absolute(), stderr=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["nothing was said"])[-1]
        raise SettingsError(
            f"`evenreel {shlex.join(words)[:80]}` of the study's settings failed: {said[:200]}"
        )
