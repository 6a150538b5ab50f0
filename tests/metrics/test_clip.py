"""CLIP's figures against transformers itself, Pillow's resizing, and loops."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPModel, CLIPTokenizer

from evenreel.backbones.clip import load_clip, preprocess
from evenreel.errors import SettingsError, WeightsError
from evenreel.metrics.clip import ClipDirection, ClipFrames, ClipText
from evenreel.world import HELD_OUT, caption, random_scene, render
from metrics.measuring import figure, value


@pytest.fixture(scope="module")
def scene():
    return random_scene(HELD_OUT + 4, objects=1)


@pytest.fixture(scope="module")
def clips(scene):
    edited = scene.edited(colour="blue" if scene.main.colour != "blue" else "red")
    return render(scene, range(5), 128, maps=False).frames, render(edited, range(5), 128, maps=False).frames


@pytest.fixture(scope="module")
def prompts(scene):
    edited = scene.edited(colour="blue" if scene.main.colour != "blue" else "red")
    return {"source_prompt": caption(scene), "prompt": caption(edited)}


def with_pillow(frame: torch.Tensor, size: int) -> torch.Tensor:
    """What CLIP's own preprocessing does, in 8 bits."""
    picture = Image.fromarray((frame * 255).round().byte().permute(1, 2, 0).numpy())
    width, height = picture.size
    short = min(width, height)
    picture = picture.resize((size * width // short, size * height // short), Image.Resampling.BICUBIC)
    left, top = (picture.width - size) // 2, (picture.height - size) // 2
    picture = picture.crop((left, top, left + size, top + size))
    mean = np.array([0.48145466, 0.4578275, 0.40821073])
    std = np.array([0.26862954, 0.26130258, 0.27577711])
    return torch.from_numpy((np.asarray(picture) / 255 - mean) / std).permute(2, 0, 1)


@pytest.mark.parametrize(("height", "width"), [(128, 128), (90, 160), (161, 97), (32, 32), (20, 50)])
def test_preprocessing_is_that_of_clip(height, width):
    frames = render(random_scene(HELD_OUT), range(1), (height, width), maps=False).frames
    found, expected = preprocess(frames, 32)[0], with_pillow(frames[0], 32)
    assert found.shape == (3, 32, 32)
    assert (found - expected).abs().max() < 1.6 / 255 / 0.26  # Pillow rounds to 8 bits twice


def unit(x):
    return [value / math.sqrt(sum(v * v for v in x)) for value in x]


def dot(x, y):
    return sum(a * b for a, b in zip(x, y, strict=True))


@pytest.fixture(scope="module")
def embeddings(clip_folder, clips, prompts):
    """By transformers, with Pillow's pictures."""
    model = CLIPModel.from_pretrained(clip_folder)
    tokenizer = CLIPTokenizer.from_pretrained(clip_folder)

    def seen(frames):
        pictures = torch.stack([with_pillow(frame, 32) for frame in frames]).float()
        with torch.inference_mode():
            return [unit(row) for row in model.get_image_features(pictures).pooler_output.double().tolist()]

    def read(text):
        with torch.inference_mode():
            ids = tokenizer(text, return_tensors="pt").input_ids
            return unit(model.get_text_features(input_ids=ids).pooler_output[0].double().tolist())

    return [seen(frames) for frames in clips], read(prompts["source_prompt"]), read(prompts["prompt"])


@pytest.mark.parametrize("length", [1, 2, 16])
def test_figures_are_those_of_loops(clip, clips, prompts, embeddings, length):
    (source, edit), before, after = embeddings
    text = sum(100 * dot(frame, after) for frame in edit) / 5
    neighbours = sum(dot(edit[i], edit[i + 1]) for i in range(4)) / 4
    asked = unit([a - b for a, b in zip(after, before, strict=True)])
    directions = [
        dot(unit([e - s for e, s in zip(one, other, strict=True)]), asked)
        for one, other in zip(edit, source, strict=True)
    ]
    known = {"clip": clip, "length": length, **prompts}
    assert value(ClipText, *clips, **known) == pytest.approx(text, abs=0.1)
    assert value(ClipFrames, *clips, **known) == pytest.approx(neighbours, abs=1e-3)
    assert value(ClipDirection, *clips, **known) == pytest.approx(sum(directions) / 5, abs=0.02)


def test_windows_change_nothing(clip, clips, prompts):
    for kind in ClipText, ClipFrames, ClipDirection:
        values = [value(kind, *clips, clip=clip, length=length, **prompts) for length in (1, 2, 3, 5)]
        assert values == pytest.approx([values[0]] * 4, abs=1e-4)


def test_the_first_frame_is_not_compared_with_itself(mini_clip):
    """Two frames that look different make one pair; a frame with itself would pull the mean towards 1."""
    frames = torch.cat(
        [render(random_scene(HELD_OUT + i), range(1), 64, maps=False).frames for i in range(2)]
    )
    one, other = torch.nn.functional.normalize(mini_clip.embed_frames(frames), dim=-1)
    assert value(ClipFrames, frames, frames, clip=mini_clip) == pytest.approx(float(one @ other), abs=1e-5)
    assert float(one @ other) < 0.9


def test_mini_knows_the_world(mini_clip, clips, prompts):
    """The asked-for caption fits the true edit better than it fits the source, and the direction is right."""
    source, edit = clips
    assert value(ClipText, source, edit, clip=mini_clip, **prompts) > 3 + value(
        ClipText, source, source, clip=mini_clip, **prompts
    )
    assert value(ClipDirection, source, edit, clip=mini_clip, **prompts) > 0.4


def test_red_and_blue_are_not_swapped(mini_clip):
    scene = random_scene(HELD_OUT + 4, objects=1).edited(colour="red", background="snow", style="none")
    frames = render(scene, range(2), 128, maps=False).frames
    right = value(ClipText, frames, frames, clip=mini_clip, prompt=caption(scene))
    swapped = value(ClipText, frames, frames.flip(1), clip=mini_clip, prompt=caption(scene))
    assert right > swapped + 3


def test_a_frozen_clip_wins(clip, clips, prompts):
    source, edit = clips
    frozen = edit[:1].expand(5, -1, -1, -1)
    assert value(ClipFrames, source, frozen, clip=clip) == pytest.approx(1, abs=1e-6)
    assert value(ClipFrames, source, edit, clip=clip) < 1


class TestNothingToSay:
    def test_one_frame(self, clip, clips, prompts):
        source, edit = clips[0][:1], clips[1][:1]
        assert "one frame" in figure(ClipFrames, source, edit, clip=clip).unavailable
        assert figure(ClipText, source, edit, clip=clip, **prompts).value is not None

    def test_an_unchanged_clip_has_no_direction(self, clip, clips, prompts):
        found = figure(ClipDirection, clips[0], clips[0], clip=clip, **prompts)
        assert found.unavailable == "no frame of the edit differs from the source"

    def test_unchanged_frames_do_not_count(self, clip, clips, prompts):
        source, edit = clips
        half = torch.cat([source[:2], edit[2:]])
        found = figure(ClipDirection, source, half, clip=clip, **prompts)
        rest = value(ClipDirection, source[2:], edit[2:], clip=clip, **prompts)
        assert found.value == pytest.approx(rest, abs=1e-5)
        assert found.note == "without 2 frames that are as in the source"

    def test_equal_prompts(self, clip, clips):
        found = figure(ClipDirection, *clips, clip=clip, prompt="a star", source_prompt="a star")
        assert "no direction is asked for" in found.unavailable

    def test_no_prompt_and_no_model(self, clip, clips):
        assert "no prompt is known" in figure(ClipText, *clips, clip=clip).unavailable
        assert "no CLIP was given" in figure(ClipText, *clips, prompt="x").unavailable
        found = figure(ClipDirection, *clips, prompt="x")
        assert "no CLIP was given" in found.unavailable
        assert "no source prompt is known" in found.unavailable

    def test_a_prompt_that_is_too_long(self, clip, clips):
        """Nothing is cut off silently."""
        assert "shorten it" in figure(ClipText, *clips, clip=clip, prompt="star " * 50).unavailable
        with pytest.raises(SettingsError, match="shorten it"):
            clip.embed_texts(["star " * 50])


class TestFolders:
    def test_a_folder_that_is_none(self, tmp_path):
        with pytest.raises(WeightsError, match="not a folder"):
            load_clip(str(tmp_path / "nowhere"))
        with pytest.raises(WeightsError, match="is missing"):
            load_clip(str(tmp_path))

    def test_another_class(self, dino_folder):
        with pytest.raises(WeightsError, match="must be a plain CLIPModel, got ViTModel"):
            load_clip(str(dino_folder))

    def test_pickled_weights(self, clip_folder, tmp_path):
        shutil.copytree(clip_folder, tmp_path / "clip")
        (tmp_path / "clip" / "model.safetensors").rename(tmp_path / "clip" / "pytorch_model.bin")
        with pytest.raises(WeightsError, match="pickled"):
            load_clip(str(tmp_path / "clip"))

    def test_code_of_its_own(self, clip_folder, tmp_path):
        shutil.copytree(clip_folder, tmp_path / "clip")
        config = json.loads((tmp_path / "clip" / "config.json").read_text())
        config["auto_map"] = {"AutoModel": "code.Model"}
        (tmp_path / "clip" / "config.json").write_text(json.dumps(config))
        with pytest.raises(WeightsError, match="must be a plain CLIPModel"):
            load_clip(str(tmp_path / "clip"))

    def test_without_its_vocabulary(self, clip_folder, tmp_path):
        shutil.copytree(clip_folder, tmp_path / "clip")
        for file in (tmp_path / "clip").glob("*"):
            if file.name not in ("config.json", "model.safetensors"):
                file.unlink()
        with pytest.raises(WeightsError, match="fit the text encoder"):
            load_clip(str(tmp_path / "clip"))

    def test_names_and_hashes_are_kept(self, clip, clip_folder, mini_clip):
        assert clip.name == str(clip_folder)
        assert mini_clip.name == "mini"
        assert len(clip.fingerprint) == 64
        assert clip.fingerprint != mini_clip.fingerprint
