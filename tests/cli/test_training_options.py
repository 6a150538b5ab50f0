"""`evenreel train` and `evenreel data build`: their options are the fields of settings, and Python trains the same."""

import dataclasses
import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

import evenreel
from evenreel.adapters.window import Window
from evenreel.backbones import mini
from evenreel.cli import main
from evenreel.errors import SettingsError
from evenreel.settings.changes import changed, options, told_of
from evenreel.training.adapter import recipes
from evenreel.training.adapter.settings import AdapterTrainingSettings, Validation, Watching
from evenreel.training.data.settings import DataSettings, SourceSettings
from evenreel.training.mini.recipe import MiniRecipe
from evenreel.training.motion.settings import MotionTrainingSettings

WORDS = {
    "model": ("tiny", "tiny"),
    "clip": ("eyes", "eyes"),
    "steps": ("7", 7),
    "minutes": ("1.5", 1.5),
    "learning_rate": ("0.01", 0.01),
    "warmup": ("3", 3),
    "decay": ("0.5", 0.5),
    "accumulation": ("3", 3),
    "gradient_clip": ("2", 2.0),
    "dtype": ("float32", "float32"),
    "checkpoint_seconds": ("5", 5.0),
    "pairs": ("4", 4),
    "seed": ("9", 9),
    "device": ("cpu", "cpu"),
    "rank": ("8", 8),
    "alpha": ("2", 2.0),
    "scope": ("down_blocks.*, mid_block.*", ("down_blocks.*", "mid_block.*")),
    "shared_tokens": ("3", 3),
    "frame_tokens": ("stride", "stride"),
    "frame_token_weight": ("2", 2.0),
    "window": ("0.6:0.9", Window(0.6, 0.9)),
    "inference_window": ("0.7:1", Window(0.7, 1.0)),
    "scale": ("0.4", 0.4),
    "licence": ("CC0-1.0", "CC0-1.0"),
    "edit_steps": ("6", 6),
    "edit_guidance": ("1:5", (1.0, 5.0)),
    "edit_host": ("vidtome", "vidtome"),
    "edit_motion": ("off", "off"),
    "edit_answers": ("none", "none"),
    "temporal": ("frames", "frames"),
    "weight_temporal": ("0.7", 0.7),
    "weight_diffusion": ("0.2", 0.2),
    "shared_noise": ("0.3", 0.3),
    "unconditional": ("0.4", 0.4),
    "noise_levels": ("0.1:1", Window(0.1, 1.0)),
    "gate": ("0.6", 0.6),
    "control": ("depths", "depths"),
}
"""By setting: a word on the command line, and the value that it is."""


@pytest.fixture
def trained(monkeypatch):
    """What `train adapter` and `train motion` would train, in the place of training it."""
    seen = []

    def adapter(data, out, settings, *, validation, progress):
        seen.append((settings, validation))
        return out

    def motion(data, out, settings, *, progress):
        seen.append((settings, None))
        return out

    monkeypatch.setattr("evenreel.workflows.training.adapter.train_adapter", adapter)
    monkeypatch.setattr("evenreel.workflows.training.motion.train_motion", motion)
    return seen


def flag(name):
    return f"--{name.replace('_', '-')}"


def test_every_option_of_the_adapter_has_a_word_here():
    assert {leaf.name for leaf in options(AdapterTrainingSettings)} == WORDS.keys()


@pytest.mark.parametrize("learn", recipes.NAMES)
def test_the_command_line_trains_what_python_trains(learn, trained):
    own = told_of(recipes.adapter(learn))
    words = [part for name in own for part in (flag(name), WORDS[name][0])]
    assert main(["train", "adapter", "data", "--recipe", learn, *words, "-q"]) == 0
    told = {name: WORDS[name][1] for name in own}
    settings, validation = trained[0]
    assert settings == recipes.adapter(learn, **told)
    assert validation is None
    assert told_of(settings) == told  # field by field: all of it arrived


@pytest.mark.parametrize("learn", recipes.NAMES)
def test_nothing_told_is_the_recipe(learn, trained):
    for name in ("--recipe", "--learn"):  # as version 0.2 called it
        assert main(["train", "adapter", "data", name, learn, "-q"]) == 0
        assert trained.pop()[0] == recipes.adapter(learn)


def test_data_without_right_answers_have_a_recipe_of_their_own(trained, tmp_path, monkeypatch):
    for kind, recipe in (("world", "edits"), ("folder", "clips"), ("msr-vtt", "clips")):
        told = SimpleNamespace(source={"kind": kind})
        monkeypatch.setattr("evenreel.training.data.manifest.read_manifest", lambda _, told=told: told)
        assert main(["train", "adapter", str(tmp_path), "-q"]) == 0
        assert trained.pop()[0] == recipes.adapter(recipe)


def test_the_window_of_edits_is_where_they_are_used_too():
    window = Window(0.6, 0.8)
    settings = recipes.adapter("edits", window=window)
    assert (
        settings.loss.window
        == settings.adapter.training_window
        == settings.adapter.inference_window
        == window
    )
    settings = recipes.adapter("noise", window=window)
    assert settings.loss.window == settings.adapter.training_window == window
    assert settings.adapter.inference_window == recipes.adapter("noise").adapter.inference_window


def test_tokens_that_are_none_and_some():
    assert recipes.adapter("edits").adapter.tokens is None
    some = recipes.adapter("edits", shared_tokens=3).adapter.tokens
    assert (some.shared, some.select) == (3, "none")
    assert recipes.adapter("noise", shared_tokens=0, frame_tokens="none").adapter.tokens is None
    assert recipes.adapter("noise", shared_tokens=0).adapter.tokens.select == "average"


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"stepz": 3}, "has no setting stepz"),
        ({"steps": "many"}, "steps must be a whole number"),
        ({"rank": 0}, "rank must be from 1 to 1024"),
        ({"temporal": "frames"}, "temporal has no effect with recipe edits"),
    ],
)
def test_what_python_cannot_be_told(told, said):
    with pytest.raises(SettingsError, match=said):
        recipes.adapter("edits", **told)


IN_WORDS = (None, "none", "by rule", "those of the window")
"""Defaults on help pages that are not values."""


def test_defaults_that_help_shows_in_words_are_those_of_the_recipes():
    for kind, recipe in (
        (AdapterTrainingSettings, recipes.adapter("edits")),
        (MotionTrainingSettings, MotionTrainingSettings()),
        (DataSettings, DataSettings()),
    ):
        for leaf in options(kind):
            if leaf.option.parse is not None and leaf.option.default not in IN_WORDS:
                several = leaf.name == "strides"
                word = [leaf.option.default] if several else leaf.option.default
                assert leaf.option.parse(leaf.name, word) == told_of(recipe)[leaf.name], leaf.name


def test_validation(trained):
    words = ["--validate", "a.mp4", "--validate-prompt", "a star", "--validate-every", "3"]
    assert main(["train", "adapter", "data", *words, "--validate-frames", "4", "-q"]) == 0
    validation = trained[0][1]
    assert isinstance(validation, Validation)
    assert (str(validation.clip), validation.prompt, validation.every, validation.frames) == (
        "a.mp4",
        "a star",
        3,
        4,
    )
    assert validation.host == Validation.host
    assert Watching().validate is None


def test_motion(trained):
    words = [
        "--from",
        "mini",
        "--strides",
        "1,3",
        "--clips",
        "4",
        "--middle",
        "--minutes",
        "2",
        "--decay",
        "0",
    ]
    assert main(["train", "motion", "data", *words, "-q"]) == 0
    own = MotionTrainingSettings()
    assert trained[0][0] == dataclasses.replace(
        own,
        start="mini",
        strides=(1, 3),
        clips=4,
        middle=True,
        loop=dataclasses.replace(own.loop, steps=None, minutes=2.0, decay=0.0),
    )


def test_mini(monkeypatch, tmp_path):
    seen = {}

    def train(folder, parts, **told):
        seen.update(told, folder=folder, parts=parts)

    monkeypatch.setattr("evenreel.training.mini.train.train_mini", train)
    words = [
        "--parts",
        "vae, unet",
        "--from",
        "mini",
        "--minutes",
        "2",
        "--learning-rate",
        "0.01",
        "--device",
        "cpu",
    ]
    assert main(["train", "mini", *words, "--out", str(tmp_path), "-q"]) == 0
    assert (seen["folder"], seen["parts"], seen["start"]) == (tmp_path, ("vae", "unet"), mini.FOLDER)
    assert seen["recipe"] == MiniRecipe().told(minutes=2, learning_rate=0.01)
    own = MiniRecipe().parts["text"]
    told = dataclasses.replace(own.loop, steps=None, minutes=2.0, learning_rate=0.01)
    assert seen["recipe"].parts["text"] == dataclasses.replace(own, loop=told)

    assert main(["train", "mini", "-q"]) == 0
    assert (seen["recipe"], seen["start"]) == (MiniRecipe(), None)
    assert seen["parts"] == ("vae", "text", "vision", "decoder", "judge", "unet", "motion", "control")


def test_data(monkeypatch, tmp_path):
    seen = []

    def build(source, out, settings, *, looking, workers, strict, progress):
        seen.append((source, settings))
        raise SettingsError("built.")

    monkeypatch.setattr("evenreel.workflows.training.data_build.build", build)
    words = ["--world", "3", "--first-seed", "5", "--objects", "2", "--scene-frames", "9", "--size", "64x32"]
    words += ["--control", "depth", "--control", "canny", "--flow", "--jpeg", "--gap", "4"]
    main(["data", "build", *words, "-o", str(tmp_path / "data")])
    source, settings = seen[0]
    assert [(entry.seed, entry.objects, entry.frame_count) for entry in source.entries] == [
        (5, 2, 9),
        (6, 2, 9),
        (7, 2, 9),
    ]
    assert settings == DataSettings(size=(64, 32), control=("depth", "canny"), flow=True, jpeg=True, gap=4)
    assert (settings.maps, settings.image_format) == (("depth", "canny", "flow"), "jpeg")


def test_a_manifest_of_before_is_read():
    before = {
        "size": [64, 32],
        "frames": 2,
        "gap": 2,
        "per_clip": 8,
        "image_format": "jpeg",
        "maps": ["depth", "flow"],
        "variations": 2,
        "captioner": None,
        "clips_per_shard": 32,
        "allow_truncated": False,
    }
    settings = DataSettings.from_json(before)
    assert settings == DataSettings(size=(64, 32), jpeg=True, control=("depth",), flow=True)
    assert DataSettings.from_json(json.loads(json.dumps(settings.to_json()))) == settings


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["clips", "--world", "2"], "give a SOURCE of clips or --world SCENES"),
        (["--world", "2", "--split", "train"], "--split goes with a SOURCE of clips only"),
        (["clips", "--scene-frames", "9"], "--scene-frames goes with --world only"),
        (["--world", "2", "--objects", "3"], "--objects must be from 1 to 2"),
        (["--world", "2", "--control", "scribble"], "--control must be"),
        (["--world", "2", "--frames", "1"], "--frames must be from 2 to 64"),
    ],
)
def test_data_that_cannot_be(words, said, tmp_path, capsys):
    assert main(["data", "build", *words, "-o", str(tmp_path / "data")]) == 2
    assert said in capsys.readouterr().err


def test_changes_are_flat_and_several_places_of_one_name_change_together():
    settings = changed(MotionTrainingSettings(), {"steps": 3, "clips": 5}, "a training")
    assert (settings.loop.steps, settings.clips) == (3, 5)
    assert SourceSettings().world is None


def test_options_come_without_pytorch():
    code = "import sys, evenreel.cli.app as cli, typer; typer.main.get_command(cli.app); print('torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("settings", "told", "said"),
    [
        ("nosuch", {}, "recipe must be one of"),
        ("edits", {"nosuch": 1}, "nosuch"),
        (recipes.adapter("edits"), {"steps": 3}, "stand beside settings"),
    ],
)
def test_a_training_from_python_is_told_what_cannot_be(settings, told, said, tmp_path):
    with pytest.raises(SettingsError, match=said):
        evenreel.train_adapter(tmp_path, tmp_path / "out", settings, **told)
    assert not (tmp_path / "out").exists()
