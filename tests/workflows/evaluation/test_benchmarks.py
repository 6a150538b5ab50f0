"""Benchmarks of the field, from tiny folders laid out as theirs are."""

import json
import shlex
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evenreel.cli import main
from evenreel.errors import ClipError, SettingsError
from evenreel.workflows.evaluation.benchmarks import BENCHMARKS, commands, read_benchmark, to_measure
from evenreel.workflows.evaluation.evaluate import Evaluator
from evenreel.workflows.evaluation.pairs import Pair

DOCUMENT = Path(__file__).parents[3] / "docs" / "metrics.md"


def images(folder: Path, count=3, name="{:05d}.png", seed=0, size=(16, 20)) -> Path:
    folder.mkdir(parents=True)
    for index in range(count):
        picture = np.random.default_rng(seed + index).integers(0, 256, (*size, 3), np.uint8)
        Image.fromarray(picture).save(folder / name.format(index))
    return folder


def masks(folder: Path, count=3, name="{:05d}.png", size=(16, 20)) -> Path:
    """The left half is marked."""
    folder.mkdir(parents=True)
    marked = np.zeros(size, np.uint8)
    marked[:, : size[1] // 2] = 255
    for index in range(count):
        Image.fromarray(marked).save(folder / name.format(index))
    return folder


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def read(name, data, **common):
    return read_benchmark(name, Pair(source=data, edit=data.parent / "edits", **common))


def seen(pairs):
    return [(pair.edit.name, pair.source_prompt, pair.prompt) for pair in pairs]


@pytest.fixture
def five(tmp_path):
    data = tmp_path / "FiVE"
    entry = {
        "video_name": "0001_bus",
        "save_dir": "1_a_red_truck",
        "source_prompt": "A [bus] drives by.",
        "target_prompt": "A [red truck] drives by.",
        "editing_type_id": 1,
    }
    write(data / "edit_prompt/edit1_FiVE.json", json.dumps([entry]))
    other = {**entry, "save_dir": "10_gone", "target_prompt": "An empty road.", "editing_type_id": 6}
    write(data / "edit_prompt/edit6_FiVE.json", json.dumps([other]))
    images(data / "images/0001_bus", name="{:05d}.jpg")
    masks(data / "bmasks/0001_bus", name="{:05d}.jpg")
    return data


def test_five(five):
    made = images(five.parent / "edits/0001_bus/1_a_red_truck", seed=9)
    pairs = read("five", five)
    assert seen(pairs) == [
        ("1_a_red_truck", "A bus drives by.", "A red truck drives by."),
        ("10_gone.mp4", "A bus drives by.", "An empty road."),
    ]
    assert pairs[0].edit == made
    assert pairs[0].source == pairs[1].source == five / "images/0001_bus"
    assert pairs[0].mask == five / "bmasks/0001_bus"
    evaluation = Evaluator(metrics=("background_psnr", "source_psnr")).evaluate(pairs[0])
    assert all(figure.value is not None for figure in evaluation.figures.values())


def test_an_edit_that_was_never_made_is_a_failure(five, capsys):
    edits = five.parent / "edits"
    images(edits / "0001_bus/1_a_red_truck", seed=9)
    command = ["evaluate", str(five), str(edits), "--benchmark", "five", "--json", "--metric", "source_ssim"]
    assert main(command) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["benchmark"] == "five"
    assert found["means"]["source_ssim"]["pairs"] == 1
    assert found["means"]["source_ssim"]["low"] is None
    assert [failure["prompt"] for failure in found["failures"]] == ["An empty road."]
    images(edits / "0001_bus/10_gone", seed=5)
    assert main(command) == 0


def test_the_edits_to_be_made_as_commands(five, capsys):
    """A shell reads them as they are meant, whatever the prompt holds."""
    file = five / "edit_prompt/edit6_FiVE.json"
    row = json.loads(file.read_text())[0] | {"target_prompt": '-It\'s $HOME; "gone"', "save_dir": "a b"}
    write(file, json.dumps([row]))
    edits = five.parent / "my edits"
    images(edits / "0001_bus/1_a_red_truck")
    given = ["evaluate", str(five), str(edits), "--benchmark", "five", "--frames", "0:2", "--list"]
    assert main(given) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1
    folder, edit = lines[0].split(" && ")
    assert shlex.split(folder) == ["mkdir", "-p", str(edits / "0001_bus")]
    assert shlex.split(edit) == [
        "evenreel", "edit", str(five / "images/0001_bus"), "--prompt=-It's $HOME; \"gone\"",
        "--source-prompt=A bus drives by.", "--frames=0:2", "--out", str(edits / "0001_bus/a b.mp4"),
    ]  # fmt: skip
    shown = subprocess.run(
        ["/bin/sh", "-c", edit.replace("evenreel edit", "printf '%s\\n'")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert shown.stdout.splitlines()[1] == '--prompt=-It\'s $HOME; "gone"'


def test_v2vbench(tmp_path):
    data, edits = tmp_path / "V2VBench", tmp_path / "edits"
    write(
        data / "config.yaml",
        "data:\n- video_id: hike\n  edit:\n  - prompt: a superman hikes\n  - prompt: a man hikes, pixel art\n",
    )
    images(data / "hike")
    write(edits / "hike/0.gif", "")
    images(edits / "hike/1")
    pairs = read("v2vbench", data)
    assert seen(pairs) == [("0.gif", None, "a superman hikes"), ("1", None, "a man hikes, pixel art")]
    assert {pair.source for pair in pairs} == {data / "hike"}


def test_tgve(tmp_path):
    data = tmp_path / "loveu"
    columns = "Video name,Our GT caption,Style Change Caption,Object Change Caption,Background Change Caption"
    write(
        data / "LOVEU-TGVE-2023_Dataset.csv",
        f"{columns},Multiple Changes Caption,Source\n"
        "DAVIS Videos:,,,,,,\n"
        'gold-fish,"Fish, swimming.",Fish in ink.,"Sharks\nswimming.",Fish in a sewer.,Sharks in ink.,x\n'
        ",,,,,,\n"
        "Youtube Videos:,,,,,,\n"
        "salsa,They dance.,They dance in oil.,Bears dance.,They dance on ice.,Bears on ice.,y\n",
    )
    images(data / "DAVIS_480p/480p_frames/gold-fish", name="{:05d}.jpg")
    images(data / "youtube_480p/480p_frames/salsa", name="{:05d}.jpg")
    made = images(tmp_path / "edits/youtube_480p/salsa/multiple", name="{:05d}.jpg")
    pairs = read("tgve", data)
    assert len(pairs) == 8
    assert seen(pairs)[:2] == [
        ("style.mp4", "Fish, swimming.", "Fish in ink."),
        ("object.mp4", "Fish, swimming.", "Sharks\nswimming."),
    ]
    assert pairs[7].edit == made
    assert pairs[7].prompt == "Bears on ice."
    assert [pair.source.name for pair in pairs] == ["gold-fish"] * 4 + ["salsa"] * 4
    assert all(pair.source.is_dir() for pair in pairs)


class TestDavis:
    @pytest.fixture
    def davis(self, tmp_path):
        data = tmp_path / "DAVIS"
        for name in "bear", "bus", "cow":
            images(data / "JPEGImages/480p" / name, name="{:05d}.jpg")
        masks(data / "Annotations/480p/bear")
        masks(data / "Annotations/480p/bus", count=1)
        palette = Image.new("P", (20, 16))
        palette.putdata(([0] * 10 + [1] * 10) * 16)
        palette.putpalette([0, 0, 0, 128, 0, 0])
        for index in range(3):
            (data / "Annotations/480p/cow").mkdir(parents=True, exist_ok=True)
            palette.save(data / f"Annotations/480p/cow/{index:05d}.png")
        return data

    def test_clips_with_an_edit_are_measured(self, davis):
        edits = davis.parent / "edits"
        for name in "bear", "cow":
            images(edits / name, seed=3)
        pairs, left = to_measure("davis", read("davis", davis))
        assert [(pair.source.name, pair.prompt) for pair in pairs] == [("bear", None), ("cow", None)]
        assert left == ["1 of 3 clips have no edit"]

    def test_a_palette_marks_objects(self, davis):
        edit = images(davis.parent / "edits/cow", seed=3)
        pair = next(pair for pair in read("davis", davis) if pair.edit == edit)
        found = Evaluator(metrics=("background_psnr",)).evaluate(pair).figures["background_psnr"]
        before, after = (
            [np.asarray(Image.open(file).convert("RGB"), float)[:, :10] for file in sorted(folder.iterdir())]
            for folder in (pair.source, edit)
        )
        error = np.mean((np.array(before) - np.array(after)) ** 2) / 255**2
        assert found.value == pytest.approx(-10 * np.log10(error), abs=1e-3)

    def test_a_first_frame_alone_is_no_mask_for_all(self, davis):
        by_name = {pair.source.name: pair.mask for pair in read("davis", davis)}
        assert by_name["bus"] is None
        assert by_name["bear"] == davis / "Annotations/480p/bear"

    def test_prompts_are_the_user_s(self, davis):
        pairs = read("davis", davis, prompt="in ink")
        assert {pair.prompt for pair in pairs} == {"in ink"}
        assert len(list(commands(pairs))) == 3
        with pytest.raises(SettingsError, match="what bear is to become; give prompt"):
            list(commands(read("davis", davis)))

    def test_without_any_edit(self, davis):
        with pytest.raises(ClipError, match="none of 3 clips of DAVIS has an edit"):
            to_measure("davis", read("davis", davis))

    def test_the_whole_set_in_full_size(self, tmp_path):
        images(tmp_path / "DAVIS/JPEGImages/Full-Resolution/bear")
        mask = masks(tmp_path / "DAVIS/Annotations/Full-Resolution/bear")
        assert [pair.mask for pair in read("davis", tmp_path / "DAVIS")] == [mask]


def test_msr_vtt(tmp_path):
    data, edits = tmp_path / "MSRVTT", tmp_path / "edits"
    train = {"video10": ["a cook", "food"], "video2": ["a car", "cars"], "video3": ["not here"]}
    sentences = [
        {"caption": caption, "video_id": video, "sen_id": number}
        for video, captions in train.items()
        for number, caption in enumerate(captions)
    ]
    write(
        data / "train_val_annotation/train_val_videodatainfo.json",
        json.dumps({"info": {}, "videos": [], "sentences": sentences}),
    )
    test = {"sentences": [{"caption": "a dog", "video_id": "video7010", "sen_id": 0}]}
    write(data / "test_videodatainfo.json", json.dumps(test))
    for place in "TrainValVideo/video2.mp4", "TrainValVideo/video10.mp4", "TestVideo/video7010.mp4":
        write(data / place, "")
    write(edits / "video10.mp4", "")
    pairs = read("msr-vtt", data, prompt="in ink")
    assert seen(pairs) == [
        ("video2.mp4", "a car", "in ink"),
        ("video10.mp4", "a cook", "in ink"),
        ("video7010.mp4", "a dog", "in ink"),
    ]
    assert [pair.source.name for pair in to_measure("msr-vtt", pairs)[0]] == ["video10.mp4"]


class TestThatCannotBeRead:
    @pytest.mark.parametrize("name", BENCHMARKS)
    def test_another_folder(self, tmp_path, name):
        (tmp_path / "data").mkdir()
        with pytest.raises(SettingsError, match=r"holds no .*\.|has no folder JPEGImages"):
            read(name, tmp_path / "data")

    def test_an_unknown_one(self, tmp_path):
        with pytest.raises(SettingsError, match="no benchmark 'fivee'; there are five, v2vbench"):
            read("fivee", tmp_path)

    def test_a_prompt_beside_prompts(self, five):
        with pytest.raises(SettingsError, match="prompts of its own"):
            read("five", five, prompt="x")

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("[", "cannot be read as JSON"),
            ("{}", "does not list what it should"),
            ("[1]", "does not list what it should"),
            ('[{"video_name": "a", "save_dir": "b", "source_prompt": "c"}]', "target_prompt must be text"),
            ('[{"video_name": "../a", "save_dir": "b"}]', "video_name must be a name"),
            ('[{"video_name": "a", "save_dir": "/b"}]', "save_dir must be a name"),
        ],
    )
    def test_lists_that_are_damaged(self, five, text, words):
        write(five / "edit_prompt/edit1_FiVE.json", text)
        with pytest.raises(SettingsError, match=words):
            read("five", five)

    @pytest.mark.parametrize(
        "text", ["data: [", "- 1", "data:\n- video_id: a\n  edit: 3\n", "!!python/x:y z"]
    )
    def test_yaml_that_is_damaged(self, tmp_path, text):
        write(tmp_path / "data/config.yaml", text)
        with pytest.raises(SettingsError, match="fetch it again"):
            read("v2vbench", tmp_path / "data")

    def test_two_edits_in_one_place(self, five):
        row = json.loads((five / "edit_prompt/edit1_FiVE.json").read_text())
        write(five / "edit_prompt/edit2_FiVE.json", json.dumps(row))
        with pytest.raises(SettingsError, match="two edits in the one place"):
            read("five", five)

    def test_an_edit_as_folder_and_as_file(self, five):
        images(five.parent / "edits/0001_bus/10_gone")
        write(five.parent / "edits/0001_bus/10_gone.webm", "")
        with pytest.raises(ClipError, match="one clip twice"):
            read("five", five)


def test_all_are_documented():
    text = DOCUMENT.read_text(encoding="utf-8")
    for name, benchmark in BENCHMARKS.items():
        assert f"`{name}`" in text
        assert benchmark.title in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a", "b", "--list"], "name it with --benchmark"),
        (["a", "b", "--benchmark", "davis", "--mask", "m"], "knows its masks"),
        (["--benchmark", "davis"], "give SOURCE and EDIT"),
        (["--pairs", "x.csv", "--benchmark", "davis"], "give nothing beside it"),
    ],
)
def test_options_that_do_not_go_together(arguments, words, capsys):
    assert main(["evaluate", *arguments]) == 2
    assert words in capsys.readouterr().err
