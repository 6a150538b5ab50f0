"""Lists come at once: without PyTorch, which takes seconds to import; and as JSON for programs."""

import inspect
import json
import re
import subprocess
import sys

import pytest
from PIL import Image

from evenreel import registry
from evenreel.cli import main
from evenreel.metrics.base import definition
from evenreel.settings.kinds import parse_options
from evenreel.sources import read_class

LISTS = {"hosts": "vidtome", "inversions": "ddim", "metrics": "warp_error", "study list": "table1"}
HEAVY = ("torch", "diffusers", "transformers", "numpy", "av")


@pytest.mark.parametrize("command", LISTS)
def test_a_list_imports_nothing_heavy(command):
    code = (
        f"import sys; from evenreel.cli import main; main({command.split()!r}); "
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert LISTS[command] in done.stdout


def test_looking_at_a_clip_imports_no_pytorch(clip_with_sound, tmp_path):
    Image.new("RGB", (32, 32)).save(tmp_path / "0.png")
    code = (
        f"import sys; from evenreel.cli import main; main(['info', {str(clip_with_sound)!r}]); "
        f"main(['info', {str(tmp_path)!r}, '--json']); print('torch' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "False"
    assert "aac" in done.stdout


def test_defaults_are_shown_as_they_are_told(capsys):
    assert main(["inversions", "flow-edit"]) == 0
    assert re.search(r"shared_noise +none ", capsys.readouterr().out)
    assert parse_options("inversion_option", ["shared_noise=none"]) == {"shared_noise": None}


@pytest.mark.parametrize("command", LISTS)
def test_a_list_as_json(command, capsys):
    assert main([*command.split(), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert LISTS[command] in [row["name"] for row in rows]
    assert all(any(len(str(value)) > 20 for value in row.values()) for row in rows)


@pytest.mark.parametrize("command", ["hosts", "inversions"])
def test_one_as_json(command, capsys):
    assert main([command, LISTS[command], "--json"]) == 0
    one = json.loads(capsys.readouterr().out)
    assert one["name"] == LISTS[command]
    assert all(setting["meaning"] for setting in one["settings"])


@pytest.mark.parametrize("group", [registry.HOSTS, registry.INVERSIONS, registry.METRICS])
def test_sources_say_what_the_classes_say(group):
    for name, target in registry.targets(group).items():
        kind, source = registry.find(group, name), read_class(target)
        assert source is not None, target
        assert source.doc == inspect.getdoc(kind)
        for key in ("label", "family", "unit", "better", "needs") if group == registry.METRICS else ("name",):
            assert source.values[key] == getattr(kind, key), (name, key)
        if group == registry.METRICS:
            assert definition(kind)


def test_classes_of_others_are_not_read():
    assert read_class("pathlib:Path") is None
    assert read_class("evenreel.nothing:Nothing") is None
    assert read_class("evenreel.metrics.base:Nothing") is None
