"""A study on clips of the user's: which clips, what is measured of them, and the whole way to the page."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from evenreel.errors import ClipError, SettingsError
from evenreel.study import item_log
from evenreel.study.experiments.catalogue import experiments
from evenreel.study.experiments.filmed import WORLD_ONLY
from evenreel.study.report.markdown import markdown
from evenreel.study.run.footage import fingerprints, listed
from evenreel.study.settings import StudySettings
from evenreel.study.study import run_study
from lookers import save_depth
from tiny import save_tiny, save_tiny_control
from towers import save_clip, save_lpips


def save_frames(folder, count=3, seed=0, width=40, height=30):
    folder.mkdir(parents=True)
    pictures = np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), np.uint8)
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{number:03}.png")
    return pictures


@pytest.fixture
def clips(tmp_path):
    """Two clips, the second with a mask, and their edits."""
    folder = tmp_path / "clips"
    for number in range(2):
        save_frames(folder / f"c{number}", seed=number)
    (folder / "m1").mkdir()
    half = np.zeros((30, 40), np.uint8)
    half[:, 20:] = 255
    for number in range(3):
        Image.fromarray(half).save(folder / "m1" / f"{number}.png")
    rows = ["clip,prompt,source_prompt,mask", "c0,a red fox,a wolf,", '"c1","a robot, walking",,m1']
    (folder / "edits.csv").write_text("\n".join(rows) + "\n")
    return folder


def settings_of(footage, **told):
    return StudySettings(model="tiny", footage=str(footage), **told)


def test_the_list_says_what_is_asked_for(clips):
    one, other = listed(settings_of(clips))
    assert (one.prompt, one.source_prompt, one.mask) == ("a red fox", "a wolf", None)
    assert (other.prompt, other.source_prompt, other.mask) == ("a robot, walking", "", clips / "m1")
    assert listed(settings_of(clips, clips=1)) == (one,)
    assert listed(StudySettings()) == ()
    rows = [{"clip": "c0", "prompt": "a red fox", "source_prompt": "a wolf"}]
    (clips / "edits.csv").unlink()
    (clips / "edits.json").write_text(json.dumps(rows))
    assert listed(settings_of(clips)) == (one,)


def test_frames_are_cut_around_the_middle_and_masks_with_them(clips):
    _, clip = listed(settings_of(clips))
    pictures = np.stack([np.asarray(Image.open(clips / "c1" / f"{number:03}.png")) for number in range(2)])
    wanted = torch.from_numpy(pictures[:, :, 5:35]).permute(0, 3, 1, 2) / 255
    assert torch.equal(clip.frames(2, 30), wanted)
    background = clip.background(2, 30)
    assert background[..., :15].all()
    assert not background[..., 15:].any()
    with pytest.raises(ClipError, match="has 3 frames"):
        clip.frames(4, 30)


def test_a_clip_counts_by_its_content_and_by_what_is_asked_for(clips):
    before = fingerprints(listed(settings_of(clips)))
    Image.new("RGB", (40, 30)).save(clips / "c0" / "001.png")
    after = fingerprints(listed(settings_of(clips)))
    assert (before["clip 0"] != after["clip 0"], before["clip 1"] == after["clip 1"]) == (True, True)
    asked = replace(listed(settings_of(clips))[1], prompt="another")
    assert asked.fingerprint() != after["clip 1"]


def test_a_benchmark_says_it_itself(clips, tmp_path):
    data = tmp_path / "five"
    for name in ("images", "bmasks"):
        save_frames(data / name / "0001")
    (data / "edit_prompt").mkdir()
    row = {"video_name": "0001", "save_dir": "1", "source_prompt": "a [wolf]", "target_prompt": "a [fox]"}
    (data / "edit_prompt" / "edit1_FiVE.json").write_text(json.dumps([row]))
    (one,) = listed(settings_of(data, benchmark="five"))
    assert (one.path, one.prompt, one.source_prompt) == (data / "images" / "0001", "a fox", "a wolf")
    assert one.mask == data / "bmasks" / "0001"
    (tmp_path / "davis" / "JPEGImages").mkdir(parents=True)
    (clips / "c0").rename(tmp_path / "davis" / "JPEGImages" / "wolf")
    with pytest.raises(SettingsError, match="DAVIS"):
        listed(settings_of(tmp_path / "davis", benchmark="davis"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("clip,prompt\n", "lists no edits"),
        ("file,prompt\nc0,a fox\n", "edit 1 must say clip and prompt"),
        ("clip,prompt\nc0,\n", "edit 1 must say clip and prompt"),
        ("clip,prompt,colour\nc0,a fox,red\n", "edit 1 must say clip and prompt"),
        ("clip,prompt\nc0,a fox,more\n", "edit 1 must say clip and prompt"),
        ("clip,prompt\nc7,a fox\n", "there is no such clip"),
        (b"\xff\xfe\x00", "cannot be read as a list of edits"),
    ],
)
def test_a_list_that_is_none_is_one_sentence(clips, text, words):
    (clips / "edits.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SettingsError, match=words):
        listed(settings_of(clips))


def test_settings_that_do_not_go_together(clips):
    with pytest.raises(SettingsError, match="mini knows the rendered world only"):
        StudySettings(footage=str(clips))
    with pytest.raises(SettingsError, match="name the folder too"):
        StudySettings(model="tiny", benchmark="five")
    with pytest.raises(SettingsError, match="a control is canny, depth or pose, got 'scribble'"):
        settings_of(clips, controls={"scribble": "x"})
    (clips / "edits.csv").unlink()
    with pytest.raises(SettingsError, match=r"has no edits\.csv and no edits\.json"):
        listed(settings_of(clips))
    with pytest.raises(SettingsError, match="there is nothing of this name"):
        listed(settings_of(clips / "nowhere"))


def test_every_experiment_leaves_out_what_only_the_world_knows(clips):
    told = settings_of(
        clips, adapter="a", tokens={"8": "t"}, trainings={"x": "y"}, controls={"canny": "c", "pose": "p"}
    )
    found = {one.name: one for one in experiments(told)}
    for one in found.values():
        assert not WORLD_ONLY & {*one.figures, *one.tested}, one.name
        names = {condition.name for condition in one.conditions}
        assert {name for pair in one.pairs for name in pair} <= names
        assert set(one.tested) <= set(one.figures)
    assert "truth" not in {condition.name for condition in found["controls"].conditions}
    shown = {condition.options.get("control") for condition in found["table3"].conditions}
    assert shown == {None, "canny"}  # poses take a model, which is not named
    assert experiments(replace(told, controls={}, experiments=("table3",)))[0].not_run


def test_the_whole_way_to_the_page(clips, tmp_path):
    """Controls, Table 2 and Table 3 with random weights; what was measured is kept, and a new prompt measured anew."""
    settings = StudySettings(
        model=str(save_tiny(tmp_path / "sd")),
        footage="clips",
        hosts=("frame",),
        clips=10,
        seeds=(0,),
        frames=2,
        steps=2,
        strips=1,
        experiments=("controls", "table2", "table3"),
        clip_model=str(save_clip(tmp_path / "clip")),
        lpips=str(save_lpips(tmp_path / "lpips.safetensors")),
        controls={"canny": str(save_tiny_control(tmp_path / "net")), "depth": str(tmp_path / "net")},
        depth_model=str(save_depth(tmp_path / "depth")),
        folder=tmp_path,
    )
    page = run_study(settings, tmp_path / "out", processes=1).read_text()
    lines = item_log.read(tmp_path / "out" / "items.jsonl")
    assert [line["error"] for line in lines.values() if "error" in line] == []
    assert "Bilateral inversion on every host" in page
    assert "rendered world in which" not in page
    of_edits = [line["figures"] for line in lines.values() if line["kind"] in ("edit", "drawn")]
    for name in ("lpips_consecutive", "lpips_source", "clip_t", "frechet_clip", "source_psnr"):
        assert all(figures[name] is not None for figures in of_edits)
    assert all(figures["truth_psnr"] is figures["asked"] is None for figures in of_edits)
    masked = {line["clip"]: line["figures"]["background_psnr"] is not None for line in lines.values()}
    assert masked == {0: False, 1: True}
    kinds = {line["options"].get("control") for line in lines.values() if line["kind"] == "drawn"}
    assert kinds == {None, "canny", "depth"}
    assert "| frame bilateral | 2 |" in markdown(tmp_path / "out", "table2")
    assert "LPIPS of neighbours" in markdown(tmp_path / "out", "table3")

    run_study(settings, tmp_path / "out", processes=1)
    assert item_log.read(tmp_path / "out" / "items.jsonl") == lines
    table = clips / "edits.csv"
    table.write_text(table.read_text().replace("a red fox", "a green fox"))
    run_study(replace(settings, experiments=("table2",)), tmp_path / "out", processes=1)
    more = item_log.read(tmp_path / "out" / "items.jsonl").keys() - lines.keys()
    assert len(more) == 2  # ddim and bilateral of the clip whose prompt is another
