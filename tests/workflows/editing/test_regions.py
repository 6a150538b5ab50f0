"""What an edit leaves alone: masks of the user's, and what the prompts say."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import evenreel
from evenreel import edit_file
from evenreel.cli import main
from evenreel.errors import EvenreelError, SettingsError
from evenreel.ops.regions import grown
from evenreel.video import load
from evenreel.workflows.editing.computing import keeping
from evenreel.workflows.editing.computing.pipeline import Pipeline
from evenreel.workflows.editing.mask_file import mask_file
from evenreel.workflows.editing.regions import region
from evenreel.workflows.editing.regions.region import Queue, changed, feather_of
from evenreel.workflows.editing.repeat import repeat_edit
from video.making import moving, write_clip

SIZE = (96, 64)
"""Width and height of the clip with sound."""
FEATHER = feather_of(*SIZE)


def picture(path, box=(8, 8, 32, 40), size=SIZE):
    """A mask that is white in a box (left, top, right, bottom)."""
    image = Image.new("L", size, 0)
    if box is not None:
        image.paste(255, box)
    image.save(path)
    return path


def white(path):
    with Image.open(path) as image:
        return torch.from_numpy(np.array(image) > 127)[None]


def differing(one, other):
    return (one.frames.int() - other.frames.int()).abs().amax(-1) > 0


@pytest.mark.parametrize(
    ("host", "inversion"),
    [
        ("frame", "flow-edit"),
        ("frame", "ddim"),
        ("vidtome", "ddpm"),
        ("tokenflow", "flow-edit"),
        ("text2video_zero", "flow-edit"),
        ("vid2vid_zero", "fixed-point"),
    ],
)
def test_outside_a_mask_and_its_soft_edge_the_source_stays_bit_for_bit(
    host, inversion, clip_with_sound, tmp_path, settings
):
    mask = picture(tmp_path / "mask.png")
    result = edit_file(
        clip_with_sound, tmp_path / "out", settings(mask=str(mask), host=host, inversion=inversion)
    )
    changed = differing(load(result.path), load(clip_with_sound))
    assert not (changed & ~grown(white(mask), FEATHER)).any()
    assert (changed & white(mask)).float().sum() > 0.5 * 7 * white(mask).sum()


def test_inside_a_mask_what_changed_is_what_an_edit_without_mask_makes(
    clip_with_sound, tmp_path, settings, backbone, monkeypatch
):
    """With a mask that covers all cells but is black in places, where any change counts as one."""
    monkeypatch.setattr(region, "CHANGED", 1e-9)
    mask = Image.new("L", SIZE, 255)
    mask.putpixel((95, 63), 0)
    mask.save(tmp_path / "mask.png")
    clip = load(clip_with_sound)
    masked = evenreel.edit(clip, settings(mask=str(tmp_path / "mask.png")), backbone=backbone)
    whole = evenreel.edit(clip, settings(keep="off"), backbone=backbone)
    far = ~grown(~white(tmp_path / "mask.png"), FEATHER + 1)
    assert not (differing(masked, whole) & far).any()


def test_a_clip_is_a_mask_frame_by_frame_and_may_be_numbered_as_the_source(
    clip_with_sound, tmp_path, settings, backbone
):
    (tmp_path / "mask").mkdir()
    for number in range(7):
        picture(tmp_path / "mask" / f"{number}.png", (8 * number, 0, 8 * number + 24, 64) if number else None)
    clip = load(clip_with_sound)
    told = settings(mask=str(tmp_path / "mask"), batch=2)
    whole = evenreel.edit(clip, told, backbone=backbone)
    changed = differing(whole, clip)
    assert not changed[0].any()
    parts = torch.cat([white(tmp_path / "mask" / f"{number}.png") for number in range(7)])
    assert not (changed & ~grown(parts, FEATHER)).any()
    part = evenreel.edit(load(clip_with_sound, 2, 5), told, backbone=backbone)
    changed = differing(part, load(clip_with_sound, 2, 5))
    assert not (changed & ~grown(parts[2:5], FEATHER)).any()
    assert (changed & parts[2:5]).any()


def test_the_record_says_what_was_kept_and_it_is_repeated(clip_with_sound, tmp_path, settings):
    mask = picture(tmp_path / "mask.png", (0, 0, 48, 64))
    record = edit_file(clip_with_sound, tmp_path / "out.mkv", settings(mask=str(mask))).record
    assert record["kept"] == {"share": 0.5, "shares": [0.5] * 7, "feather": FEATHER}
    assert record["settings"]["mask"] == str(mask)
    assert record["mask"]["sha256"]
    again = repeat_edit(tmp_path / "out.json")
    assert torch.equal(load(again.path).frames, load(tmp_path / "out.mkv").frames)
    picture(mask, (0, 0, 24, 64))
    with pytest.raises(EvenreelError, match="no longer the clip that was used"):
        repeat_edit(tmp_path / "out.json")


def test_records_of_before_keep_nothing(clip_with_sound, tmp_path, settings):
    before = edit_file(clip_with_sound, tmp_path / "out.mkv", settings(keep="off"))
    values = json.loads(before.record_path.read_text(encoding="utf-8"))
    del values["settings"]["keep"], values["settings"]["mask"], values["kept"], values["mask"]
    before.record_path.write_text(json.dumps(values), encoding="utf-8")
    assert repeat_edit(before.record_path).record["settings"]["keep"] == "off"


class TestMasksThatCannotBe:
    @pytest.mark.parametrize(
        ("box", "size", "said"),
        [
            (None, SIZE, "is black throughout"),
            ((0, 0, *SIZE), SIZE, "is white throughout"),
            ((0, 0, 8, 8), (64, 64), "is 64 x 64 and the clip is 96 x 64"),
        ],
    )
    def test_pictures(self, box, size, said, clip_with_sound, tmp_path, settings):
        mask = picture(tmp_path / "mask.png", box, size)
        with pytest.raises(SettingsError, match=said):
            edit_file(clip_with_sound, tmp_path / "out.mp4", settings(mask=str(mask)))
        assert [path.name for path in tmp_path.iterdir()] == ["mask.png"]

    def test_clips_of_another_length(self, clip_with_sound, tmp_path, settings):
        mask = write_clip(tmp_path / "mask.mkv", moving(5, *SIZE))
        with pytest.raises(SettingsError, match="has 5 frames and the clip has 7"):
            edit_file(clip_with_sound, tmp_path / "out.mp4", settings(mask=str(mask)))
        with pytest.raises(SettingsError, match="has 5 frames and 3 are edited, from 4 on"):
            edit_file(clip_with_sound, tmp_path / "out.mp4", settings(mask=str(mask), frames=(4, 7)))

    def test_what_is_not_a_picture(self, clip_with_sound, tmp_path, settings):
        (tmp_path / "mask.png").write_text("white")
        with pytest.raises(EvenreelError, match=r"mask\.png"):
            edit_file(clip_with_sound, tmp_path / "out.mp4", settings(mask=str(tmp_path / "mask.png")))


class TestWhatThePromptsSay:
    def test_equal_prompts_give_the_source_and_a_sentence(self, clip_with_sound, tmp_path, settings):
        result = edit_file(
            clip_with_sound, tmp_path / "out", settings(prompt="a  star", source_prompt="a star")
        )
        assert torch.equal(load(result.path).frames, load(clip_with_sound).frames)
        assert any("are the same" in warning for warning in result.record["warnings"])

    @pytest.mark.parametrize("changes", [{"source_prompt": ""}, {"keep": "off"}])
    def test_nothing_is_kept_where_nothing_says_what_changes(
        self, changes, clip_with_sound, settings, backbone
    ):
        told = settings(**changes)
        edited = evenreel.edit(load(clip_with_sound), told, backbone=backbone)
        assert edited.record["kept"] is None

    def test_cells_that_stand_out_are_found_and_the_rest_stays(
        self, clip_with_sound, settings, backbone, monkeypatch
    ):
        def difference(pipeline, latents, prompt):
            found = torch.zeros(len(latents), *latents.shape[2:])
            found[:, :, :3] = 10.0
            return keeping.Compared(found, agreement=1.0)

        monkeypatch.setattr(keeping, "prompt_difference", difference)
        clip = load(clip_with_sound)
        edited = evenreel.edit(clip, settings(), backbone=backbone)
        changed = differing(edited, clip)
        assert changed[:, :, :20].float().mean() > 0.5
        assert not changed[:, :, -16:].any()
        assert 0 < edited.record["kept"]["share"] < 1

    def test_predictions_for_equal_words_do_not_differ(
        self, clip_with_sound, settings, backbone, monkeypatch
    ):
        found = []
        monkeypatch.setattr(keeping, "concerned", lambda difference: found.append(difference))
        evenreel.edit(load(clip_with_sound), settings(), backbone=backbone)
        assert found[0].shape == (7, 8, 12)
        assert (found[0] > 0).all()


class TestMaskOfItsOwn:
    """`evenreel mask`, with a difference that is given."""

    @pytest.fixture(autouse=True)
    def difference(self, monkeypatch):
        def in_the_middle(pipeline, latents, prompt):
            found = torch.zeros(len(latents), *latents.shape[2:])
            found[3, 3, 2] = 10.0
            return keeping.Compared(found, agreement=1.0)

        monkeypatch.setattr(keeping, "prompt_difference", in_the_middle)

    @pytest.mark.parametrize("size", [None, 48])
    def test_an_edit_with_the_mask_is_the_edit_without(
        self, size, clip_with_sound, tmp_path, settings, backbone
    ):
        told = settings(size=size)
        shares = mask_file(clip_with_sound, tmp_path / "mask", told, backbone=backbone)
        assert 0 < min(shares) < max(shares) == 1
        clip = load(clip_with_sound)
        without = evenreel.edit(clip, told, backbone=backbone)
        masked = evenreel.edit(
            clip, replace(told, mask=str(tmp_path / "mask"), keep="off"), backbone=backbone
        )
        assert torch.equal(masked.frames, without.frames)
        assert masked.record["kept"] == without.record["kept"]

    def test_the_command_line_says_what_was_kept_and_shows_it(
        self, clip_with_sound, tiny_folder, tmp_path, capsys
    ):
        quick = (
            "--source-prompt",
            "a ball",
            "--prompt",
            "a star",
            "--model",
            str(tiny_folder),
            "--device",
            "cpu",
        )
        told = (str(clip_with_sound), *quick, "--steps", "1", "--host", "frame", "-o")
        assert main(["mask", *told, str(tmp_path / "mask")]) == 0
        assert re.search(
            r"mask: 7 frames; \d+% (of each|to \d+% of a) frame is black", capsys.readouterr().out
        )
        assert main(["edit", *told, str(tmp_path / "out.mp4"), "--show-mask"]) == 0
        assert "is the source's own, but for an edge of 4 pixels" in capsys.readouterr().err
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            "mask",
            "out-mask-strip.png",
            "out.json",
            "out.mp4",
        ]

    @pytest.mark.parametrize("changes", [{"keep": "off"}, {"source_prompt": " "}])
    def test_nothing_to_compare_is_an_error(self, changes, clip_with_sound, tmp_path, settings, backbone):
        with pytest.raises(SettingsError, match="found by comparing prompt and source_prompt"):
            mask_file(clip_with_sound, tmp_path / "mask", settings(**changes), backbone=backbone)

    def test_prompts_that_change_nothing_have_no_mask(self, clip_with_sound, tmp_path, settings, backbone):
        with pytest.raises(SettingsError, match="change nothing of"):
            mask_file(clip_with_sound, tmp_path / "mask", settings(prompt="a ball"), backbone=backbone)
        assert not list(tmp_path.iterdir())


class TestChanged:
    """How much of a pixel an edit changed: frames, colours, rows and columns."""

    def test_nothing_and_all(self):
        rebuilt = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        assert not changed(rebuilt, rebuilt).any()
        assert (changed(rebuilt, rebuilt + 2 * region.CHANGED) == 1).all()

    def test_one_colour_is_enough_and_small_changes_count_in_part(self):
        rebuilt, edited = torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 32, 32)
        edited[:, 2] = region.CHANGED / 4
        assert torch.allclose(changed(edited, rebuilt), torch.full((1, 32, 32), 0.25))

    def test_a_clip_that_the_edit_left_alone_is_the_source_bit_for_bit(
        self, clip_with_sound, tmp_path, settings, backbone, monkeypatch
    ):
        """Whatever the autoencoder loses."""
        monkeypatch.setattr(Pipeline, "_edited", lambda self, latents, control, region: latents.clone())
        mask = picture(tmp_path / "mask.png")
        clip = load(clip_with_sound)
        edited = evenreel.edit(clip, settings(mask=str(mask)), backbone=backbone)
        assert torch.equal(edited.frames, clip.frames)
        without = evenreel.edit(clip, settings(keep="off"), backbone=backbone)
        assert not torch.equal(without.frames, clip.frames)


def test_rows_are_taken_in_any_lengths():
    queue = Queue(torch.arange(10).split(3))
    assert [queue.take(count).tolist() for count in (1, 4, 5)] == [[0], [1, 2, 3, 4], [5, 6, 7, 8, 9]]
    with pytest.raises(EvenreelError, match="changed while it was edited"):
        queue.take(1)
