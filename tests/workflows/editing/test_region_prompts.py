"""Regions with prompts of their own: each place is as an edit with its prompt alone makes it."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

import evenreel
from evenreel import ControlUse, EditSettings, RegionUse, edit_file
from evenreel.errors import EvenreelError, SettingsError
from evenreel.ops.regions import cells_of
from evenreel.settings.words import words
from evenreel.video import load
from evenreel.workflows.batch import table
from evenreel.workflows.editing.computing import keeping
from evenreel.workflows.editing.computing.pipeline import Pipeline
from evenreel.workflows.editing.mask_file import mask_file
from evenreel.workflows.editing.regions.places import places_of
from evenreel.workflows.editing.regions.region import MaskClip, feather_of
from evenreel.workflows.editing.repeat import repeat_edit
from tiny import save_tiny_control
from video.making import moving, write_clip

SIZE = (96, 64)
"""Width and height of the clip with sound."""
LEFT, RIGHT, ALL = (0, 0, 48, 64), (48, 0, 96, 64), (0, 0, *SIZE)
EVERYTHING = keeping.Meant(None, reshapes=False)
"""What a change of prompts is found to be about where the model is not asked."""
HOSTS = ("frame", "text2video_zero", "tokenflow", "vid2vid_zero", "vidtome")
INVERSIONS = ("bilateral", "ddim", "ddpm", "fixed-point", "null-text")


def picture(path, box=LEFT, size=SIZE):
    image = Image.new("L", size, 0)
    if box is not None:
        image.paste(255, box)
    image.save(path)
    return str(path)


@pytest.fixture
def region(tmp_path):
    """Makes settings of regions: (box, prompt) each."""

    def make(*told):
        return tuple(
            RegionUse(mask=picture(tmp_path / f"region-{number}.png", box), prompt=prompt)
            for number, (box, prompt) in enumerate(told)
        )

    return make


@pytest.fixture
def clip(clip_with_sound):
    return load(clip_with_sound)


@pytest.fixture
def latents(monkeypatch):
    """Latents that edits end with, in their order, before they are decoded."""
    found, edit = [], Pipeline.edit

    def noted(self, *args, **kwargs):
        found.append(edit(self, *args, **kwargs))
        return found[-1]

    monkeypatch.setattr(Pipeline, "edit", noted)
    return found


def in_left(made, size=SIZE):
    white = torch.zeros(1, size[1], size[0], dtype=torch.bool)
    white[:, :, : size[0] // 2] = True
    return cells_of(white, made.shape[2:])[:, None].expand_as(made)


class TestLaws:
    @pytest.mark.parametrize("host", HOSTS)
    def test_each_cell_is_that_of_the_edit_with_its_prompt_alone(
        self, host, clip, settings, backbone, region, latents
    ):
        self.check({"host": host}, clip, settings, backbone, region, latents)

    @pytest.mark.parametrize("inversion", INVERSIONS)
    def test_with_every_inversion(self, inversion, clip, settings, backbone, region, latents):
        options = {"inner_steps": 1} if inversion == "null-text" else {}
        told = {"inversion": inversion, "inversion_options": options}
        self.check(told, clip, settings, backbone, region, latents)

    @pytest.mark.parametrize(
        "told",
        [
            {"strength": 0.5},
            {"cuts": "3"},
            {"cache_interval": 2, "steps": 4},
            {"keep": "auto"},
            {"guidance_scale": 1.0},
            {"reuse_source": True},
        ],
        ids=str,
    )
    def test_with_other_settings(self, told, clip, settings, backbone, region, latents):
        self.check(told, clip, settings, backbone, region, latents)

    def test_with_a_controlnet(self, clip, settings, backbone, region, latents, tmp_path):
        control = (ControlUse(model=str(save_tiny_control(tmp_path / "control"))),)
        self.check({"control": control}, clip, settings, backbone, region, latents)

    def check(self, told, clip, settings, backbone, region, latents):
        told = {"keep": "off", "frames": (0, 4), **told}
        for prompt, more in (
            ("a cube", {}),
            ("a star", {}),
            ("a star", {"region": region((LEFT, "a cube"))}),
        ):
            evenreel.edit(clip, settings(prompt=prompt, **told, **more), backbone=backbone)
        cube, star, both = latents
        assert not torch.equal(cube, star)
        assert torch.equal(both, torch.where(in_left(both), cube, star))

    def test_a_region_with_the_prompt_itself_changes_nothing(self, clip, settings, backbone, region):
        plain = evenreel.edit(clip, settings(), backbone=backbone)
        same = evenreel.edit(clip, settings(region=region((LEFT, "a star"))), backbone=backbone)
        assert torch.equal(plain.frames, same.frames)

    def test_a_region_that_covers_all_is_the_edit_with_its_prompt(self, clip, settings, backbone, region):
        alone = evenreel.edit(clip, settings(prompt="a cube"), backbone=backbone)
        all_of_it = evenreel.edit(clip, settings(region=region((ALL, "a cube"))), backbone=backbone)
        assert torch.equal(alone.frames, all_of_it.frames)
        assert any("the prompt has no place" in told for told in all_of_it.record["warnings"])

    def test_where_regions_overlap_the_last_one_counts(self, clip, settings, backbone, region):
        two = evenreel.edit(
            clip, settings(region=region((ALL, "a cube"), (RIGHT, "a tree"))), backbone=backbone
        )
        other = evenreel.edit(
            clip, settings(prompt="a cube", region=region((RIGHT, "a tree"))), backbone=backbone
        )
        assert torch.equal(two.frames, other.frames)
        hidden = evenreel.edit(
            clip, settings(region=region((RIGHT, "a tree"), (RIGHT, "a cube"))), backbone=backbone
        )
        assert any("covered by later regions" in told for told in hidden.record["warnings"])


class TestWithMasksAndKeep:
    def test_a_mask_says_where_and_regions_say_what(
        self, clip, settings, backbone, region, tmp_path, latents
    ):
        mask = picture(tmp_path / "mask.png", (32, 0, 64, 64))
        told = settings(mask=mask, region=region((LEFT, "a cube")))
        both = evenreel.edit(clip, told, backbone=backbone)
        stays = (both.frames == clip.frames).all(-1).all(0)
        feather = feather_of(*SIZE)
        assert stays[:, : 32 - feather].all()
        assert stays[:, 64 + feather :].all()
        for prompt in ("a cube", "a star"):
            evenreel.edit(clip, settings(mask=mask, prompt=prompt), backbone=backbone)
        made, cube, star = latents
        assert torch.equal(made, torch.where(in_left(made), cube, star))

    def test_where_its_own_prompt_changes_nothing_a_place_stays(
        self, clip, settings, backbone, region, monkeypatch
    ):
        monkeypatch.setattr(keeping, "compared", lambda pipeline, latents: EVERYTHING)
        told = settings(prompt="a ball", region=region((LEFT, "a cube")))
        edited = evenreel.edit(clip, told, backbone=backbone)
        assert torch.equal(
            edited.frames[:, :, 48 + feather_of(*SIZE) :], clip.frames[:, :, 48 + feather_of(*SIZE) :]
        )
        assert edited.record["kept"]["share"] == 0.5
        assert not any("are the same" in said for said in edited.record["warnings"])

    def test_a_prompt_without_a_place_is_not_compared(self, clip, settings, backbone, region, monkeypatch):
        seen = []

        def noted(pipeline, latents):
            seen.append(pipeline.settings.prompt)
            return EVERYTHING

        monkeypatch.setattr(keeping, "compared", noted)
        evenreel.edit(clip, settings(region=region((ALL, "a cube"))), backbone=backbone)
        assert seen == ["a cube"]

    def test_where_no_prompt_changes_anything_the_source_stays(self, clip, settings, backbone, region):
        told = settings(prompt="a ball", region=region((LEFT, "a  ball")))
        edited = evenreel.edit(clip, told, backbone=backbone)
        assert torch.equal(edited.frames, clip.frames)
        assert any("prompts and source prompt are the same" in said for said in edited.record["warnings"])

    def test_the_mask_that_is_written_is_the_one_that_is_used(
        self, clip_with_sound, clip, settings, backbone, region, tmp_path, monkeypatch
    ):
        monkeypatch.setattr(keeping, "compared", lambda pipeline, latents: EVERYTHING)
        told = settings(prompt="a ball", region=region((LEFT, "a cube")))
        mask_file(clip_with_sound, tmp_path / "mask", told, backbone=backbone)
        white = load(tmp_path / "mask").frames[..., 0] > 127
        assert white[:, :, :48].all()
        assert not white[:, :, 48:].any()


class TestInTime:
    def test_a_mask_for_every_frame_is_numbered_as_the_source(
        self, settings, clip_with_sound, tmp_path, backbone
    ):
        (tmp_path / "moving").mkdir()
        for number in range(7):
            picture(tmp_path / "moving" / f"{number}.png", LEFT if number < 3 else RIGHT)
        still = RegionUse(mask=picture(tmp_path / "still.png", (40, 0, 64, 64)), prompt="a tree")
        region = (still, RegionUse(mask=str(tmp_path / "moving"), prompt="a cube"))
        whole = evenreel.edit(load(clip_with_sound), settings(region=region, keep="off"), backbone=backbone)
        part = evenreel.edit(
            load(clip_with_sound), settings(region=region, keep="off", frames=(2, 5)), backbone=backbone
        )
        assert torch.equal(part.frames, whole.frames[2:5])

    def test_its_prompt_may_change_along_the_clip(self, clip, settings, backbone, region, latents):
        changing = "0: a cube | 4: a tree"
        for prompt in (changing, "a star"):
            evenreel.edit(clip, settings(prompt=prompt, keep="off"), backbone=backbone)
        told = settings(region=region((LEFT, changing)), keep="off")
        evenreel.edit(clip, told, backbone=backbone)
        changes, star, both = latents
        assert torch.equal(both, torch.where(in_left(both), changes, star))

    def test_a_glide_is_for_the_prompts_that_change(self, settings, region):
        told = settings(region=region((LEFT, "0: a cube | 4: a tree")), prompt_glide=2)
        assert [schedule.glide for schedule in told.schedules] == [0, 2]
        with pytest.raises(SettingsError, match="prompt_glide has no effect"):
            settings(region=region((LEFT, "a cube")), prompt_glide=2)

    def test_long_clips_keep_a_byte_a_cell(self, tmp_path, monkeypatch):
        (mask,) = [MaskClip.opened(picture(tmp_path / "mask.png"), *SIZE, "region")]
        monkeypatch.setattr("evenreel.scratch.LIMIT", 64)
        told = []
        places = places_of([mask], 0, 40, 3, (8, 12), whole=True, notice=told.append)
        assert (places.dtype, tuple(places.shape)) == (torch.uint8, (40, 8, 12))
        assert (places[:, :, :6] == 1).all()
        assert not places[:, :, 6:].any()
        assert not told


class TestTold:
    def test_the_record_names_them_and_is_repeated(self, clip_with_sound, tmp_path, settings, region):
        told = settings(region=region((LEFT, "a cube"), (RIGHT, "a tree")))
        record = edit_file(clip_with_sound, tmp_path / "out.mkv", told).record
        assert record["settings"]["region_prompt"] == ["a cube", "a tree"]
        assert [Path(one["path"]).name for one in record["regions"]] == [
            "region-0.png",
            "region-1.png",
        ]
        again = repeat_edit(tmp_path / "out.json")
        assert torch.equal(load(again.path).frames, load(tmp_path / "out.mkv").frames)
        picture(tmp_path / "region-1.png", (0, 0, 8, 8))
        with pytest.raises(EvenreelError, match="no longer the clip that was used"):
            repeat_edit(tmp_path / "out.json")

    def test_in_words_of_the_command_line(self, region):
        told = EditSettings(prompt="a star", region=region((LEFT, "a cube"), (RIGHT, "a tree")))
        line = words(told)
        assert line[2::2] == ["--region", "--region", "--region-prompt", "--region-prompt"]
        assert line[-3::2] == ["a cube", "a tree"]

    def test_columns_of_a_table(self, clip_with_sound, tmp_path, region):
        region((LEFT, "a cube"), (RIGHT, "a tree"))
        (tmp_path / "edits.csv").write_text(
            "clip,prompt,region,region_prompt\n"
            f"{clip_with_sound},a star,region-0.png; region-1.png,a cube; a tree\n",
            encoding="utf-8",
        )
        (row,) = table.read(tmp_path / "edits.csv")
        assert [use.prompt for use in row.settings.region] == ["a cube", "a tree"]
        assert row.settings.region[1].mask == str(tmp_path / "region-1.png")
        line = {
            "clip": str(clip_with_sound),
            "prompt": "a star",
            "region": "region-0.png",
            "region_prompt": "a cube",
        }
        (tmp_path / "edits.jsonl").write_text(json.dumps(line), encoding="utf-8")
        assert len(table.read(tmp_path / "edits.jsonl")[0].settings.region) == 1
        picture(tmp_path / "region-0.png", LEFT, (64, 64))
        with pytest.raises(EvenreelError, match=r"row 1: region .* is 64 x 64 and the clip is 96 x 64"):
            table.read(tmp_path / "edits.jsonl")

    def test_keywords(self, clip, settings, backbone, region):
        (use,) = region((LEFT, "a cube"))
        told = settings(region=(use,))
        one = evenreel.edit(clip, told, backbone=backbone)
        plain = {
            name: value
            for name, value in told.to_json().items()
            if name in ("source_prompt", "steps", "host", "batch")
        }
        other = evenreel.edit(
            clip, "a star", region=use.mask, region_prompt="a cube", backbone=backbone, **plain
        )
        assert torch.equal(one.frames, other.frames)


class TestThatCannotBe:
    @pytest.mark.parametrize(
        ("box", "size", "said"),
        [
            (
                None,
                SIZE,
                "region .* is black throughout the frames that are edited, so that its prompt has no",
            ),
            (LEFT, (64, 64), "region .* is 64 x 64 and the clip is 96 x 64; scale it"),
        ],
    )
    def test_pictures(self, box, size, said, clip_with_sound, tmp_path, settings):
        use = RegionUse(mask=picture(tmp_path / "region.png", box, size), prompt="a cube")
        with pytest.raises(SettingsError, match=said):
            edit_file(clip_with_sound, tmp_path / "out.mp4", settings(region=(use,)))
        assert [path.name for path in tmp_path.iterdir()] == ["region.png"]

    def test_clips_of_another_length(self, clip_with_sound, tmp_path, settings):
        use = RegionUse(mask=str(write_clip(tmp_path / "region.mkv", moving(5, *SIZE))), prompt="a cube")
        with pytest.raises(SettingsError, match=r"region .* has 5 frames and the clip has 7"):
            edit_file(clip_with_sound, tmp_path / "out.mp4", settings(region=(use,)))
        with pytest.raises(SettingsError, match=r"region .* has 5 frames and 3 are edited, from 4 on"):
            edit_file(clip_with_sound, tmp_path / "out.mp4", settings(region=(use,), frames=(4, 7)))

    @pytest.mark.parametrize(
        ("told", "said"),
        [
            ({"region": "a.png"}, "region needs region_prompt; add it"),
            ({"region": "a.png", "region_prompt": " "}, "region_prompt is empty; say what this place shows"),
            ({"region_prompt": "a cube"}, "region_prompt is for a region; name one with region"),
            (
                {"region": ["a.png", "b.png", "c.png"], "region_prompt": ["a", "b"]},
                "region_prompt is given 2 times, region 3 times",
            ),
            (
                {"region": "a.png", "region_prompt": "4: a cube"},
                "region_prompt must say what frame 0 shows",
            ),
            ({"region": "a.png", "region_prompt": "a", "remove": True, "mask": "m.png"}, "leave region out"),
        ],
    )
    def test_settings(self, told, said):
        with pytest.raises(SettingsError, match=said):
            EditSettings.from_json({"prompt": "a star", **told})

    def test_a_change_behind_the_end(self, clip, settings, backbone, region):
        with pytest.raises(SettingsError, match="region_prompt changes at frame 9, and the clip has 7"):
            evenreel.edit(clip, settings(region=region((LEFT, "0: a cube | 9: a tree"))), backbone=backbone)

    def test_one_that_would_be_written_over(self, clip_with_sound, tmp_path, settings, region):
        told = settings(region=region((LEFT, "a cube")))
        with pytest.raises(EvenreelError, match="is the source itself"):
            edit_file(clip_with_sound, tmp_path / "region-0.png", told)
