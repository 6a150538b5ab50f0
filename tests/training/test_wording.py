"""Other wordings keep what a caption states; programs that word captions are believed only so far."""

import shlex
import subprocess
import sys
from types import SimpleNamespace

import pytest

from evenreel.errors import DataError, SettingsError
from evenreel.training.data import wording
from evenreel.training.data.wording import SYNONYMS, ask, variations, world_variations
from evenreel.world import captions, random_scene

CAPTIONS = ["a man is skiing down a snowy hill", "A woman is cooking in a kitchen.", "ein Hund ☃ 雪 {}"]


def test_other_wordings_are_new_repeatable_and_no_more_than_asked_for():
    found = variations(CAPTIONS, 3)
    assert found == variations(CAPTIONS, 3)
    assert 3 * 2 <= len(found) <= 9
    assert len(set(found)) == len(found)
    assert not set(found) & set(CAPTIONS)
    assert variations(CAPTIONS, 0) == []


def test_what_is_stated_stays():
    meaning = {word: min((word, *others)) for word, others in SYNONYMS.items()} | {
        other: min((word, *others)) for word, others in SYNONYMS.items() for other in others
    }
    frame = {"a", "an", "the", "is", "video", "of", "footage", "clip", "in", "which", "where"}

    def content(text: str) -> set[str]:
        words = text.lower().replace(",", " ").replace(":", " ").replace(".", " ").split()
        return {meaning.get(word, word) for word in words} - frame

    for caption in CAPTIONS:
        for other in variations([caption], 20):
            assert content(other) == content(caption)


def test_articles_follow_their_words():
    found = " / ".join(variations(["a man is washing a car"], 30))
    assert "an automobile" in found
    assert "a automobile" not in found
    assert "an guy" not in found


def test_the_world_words_its_own():
    scene = random_scene(3)
    given = captions(scene, 20)
    found = world_variations(scene, given, 2)
    assert found
    assert found == world_variations(scene, given, 2)
    assert not set(found) & set(given)
    assert all(scene.main.colour in text for text in found)


def program(body: str) -> str:
    return shlex.join([sys.executable, "-c", f"import sys, json\n{body}"])


ECHO = program("for line in sys.stdin: print(json.dumps([json.loads(line).upper(), ' ', 'x', 'y']))")


def test_a_program_words_captions():
    assert ask(ECHO, ["ein ☃", "b\\c"], 2) == {"ein ☃": ["EIN ☃", "x"], "b\\c": ["B\\C", "x"]}


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (program("sys.exit('no model')"), r"ended with status 1 \(no model\)"),
        (program("print('[]')"), "answered 2 captions with 1 lines"),
        (program("print('[]\\nnull')"), "answered 'null'"),
        (program("print('[]\\n[1]')"), "must be a JSON list of strings"),
        (program("print('[]\\n' + '[' * 99999)"), "must be a JSON list of strings"),
    ],
)
def test_a_program_that_answers_wrongly(command, words):
    with pytest.raises(DataError, match=words):
        ask(command, ["a", "b"], 2)


@pytest.mark.parametrize("command", ["/no/such/program", "'unclosed", "", "nul\0"])
def test_a_program_that_cannot_be_started(command):
    with pytest.raises(SettingsError, match="captioner"):
        ask(command, ["a"], 2)


def test_there_is_no_shell(tmp_path):
    target = tmp_path / "made"
    command = f"{shlex.quote(sys.executable)} -c 'print(\"[]\")' ; touch {target}"
    assert ask(command, ["a"], 1) == {"a": []}
    assert not target.exists()


def test_windows_splits_the_command_itself(monkeypatch):
    command = 'C:\\tools\\captions.exe "two words"'
    asked = []

    def start(arguments, **_):
        asked.append(arguments)
        return subprocess.CompletedProcess(arguments, 0, b'["a guy"]\n', b"")

    monkeypatch.setattr(wording, "os", SimpleNamespace(name="nt"))
    monkeypatch.setattr(subprocess, "run", start)
    assert ask(command, ["a man"], 1) == {"a man": ["a guy"]}
    assert asked == [command]
