"""Keywords of `evenreel.edit` and `evenreel.generate` are the fields of their settings, for type checkers too."""

import importlib.util
import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import evenreel
from evenreel.settings.fields import leaves

ROOT = Path(__file__).parents[1]
RIGHT = """\
evenreel.edit(clip, "a star", host="frame", steps=2, size=(64, 96), host_options={"p2p_cross": 0.5}, lora=["a:0.5"])
evenreel.edit(clip, prompt="a star", frames=(0, None), adapter="a.safetensors", adapter_scale=0.5)
evenreel.edit(clip, "a star", control=("a", "b"), control_scale=[1, 0.5], control_kind="as-is")
evenreel.edit(clip, "a star", control=[evenreel.ControlUse(model="a")], adapter=evenreel.AdapterUse(file="a"))
evenreel.edit(clip, evenreel.EditSettings(prompt="a star"))
evenreel.generate("a star", frames=2, fps=12.5)
"""
WRONG = """\
evenreel.edit(clip, "a star", stps=2)
evenreel.edit(clip, "a star", steps="2")
evenreel.edit(clip, "a star", keep="on")
evenreel.edit(clip, "a star", control_scale="1")
evenreel.generate("a star", frames=(0, 2))
evenreel.generate("a star", source_prompt="a ball")
"""


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(ROOT / "scripts" / "keywords.py"))


def test_the_file_is_what_the_fields_say(script):
    written = script["written"]()
    assert script["TARGET"].read_text(encoding="utf-8") == written, "run ./scripts/check --fix"
    for name, kind in script["CLASSES"].items():
        part = written.partition(f"class {name}(")[2].partition("class ")[0]
        told = re.findall(r"^    (\w+): ", part, flags=re.MULTILINE)
        assert told == [leaf.name for leaf in leaves(kind) if leaf.name != "prompt"]


def test_a_type_checker_knows_them(tmp_path):
    if importlib.util.find_spec("pyright") is None:
        pytest.skip("pyright is not installed (extra dev)")
    program = tmp_path / "program.py"
    head = 'import evenreel\n\nclip = evenreel.load("in.mp4")\n'
    program.write_text(head + RIGHT + WRONG, encoding="utf-8")
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, str(program)]
    here = {**os.environ, "PYTHONPATH": str(Path(evenreel.__file__).parents[1])}
    done = subprocess.run(command, cwd=ROOT, env=here, capture_output=True, text=True, check=False)
    found = json.loads(done.stdout)["generalDiagnostics"]
    lines = {one["range"]["start"]["line"] for one in found if one["severity"] == "error"}
    first = (head + RIGHT).count("\n")
    assert lines == set(range(first, first + WRONG.count("\n"))), found


@pytest.mark.parametrize(
    ("keywords", "said"),
    [
        ({"stps": 2}, "an edit has no setting stps; its settings are: adapter,"),
        ({"steps": "2"}, "steps must be a whole number"),
        ({"keep": "on"}, "keep must be one of auto, off"),
    ],
)
def test_a_wrong_one_is_a_sentence(keywords, said, clip_with_sound):
    with pytest.raises(evenreel.SettingsError, match=f"^{re.escape(said)}"):
        evenreel.edit(evenreel.load(clip_with_sound), "a star", **keywords)
