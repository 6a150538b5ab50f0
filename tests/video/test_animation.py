"""Animated pictures, GIFs, and folders of images: all frames, at their times."""

from fractions import Fraction

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from evenreel.video import ReadSettings, VideoWriter, load, open_clip, probe
from evenreel.video.images import natural_key
from video.damage import refused
from video.making import moving


def save(path, pictures, **options):
    first, *others = [Image.fromarray(picture) for picture in pictures]
    first.save(path, save_all=True, append_images=others, **options)
    return path


@pytest.mark.parametrize("name", ["a.webp", "a.png"])
def test_all_frames_at_their_times(tmp_path, name):
    lossless = {"lossless": True} if name == "a.webp" else {}
    pictures = moving(5)
    path = save(tmp_path / name, pictures, duration=[100, 40, 300, 50, 500], loop=0, **lossless)
    clip = load(path)
    assert np.array_equal(clip.frames.numpy(), np.stack(pictures))
    assert [float(t) for t in clip.timestamps] == pytest.approx([0, 0.1, 0.14, 0.44, 0.49])
    assert float(clip.end_time) == pytest.approx(0.99)
    assert (clip.info.frame_count, clip.info.is_images) == (5, False)
    part = open_clip(path, 1, 3)
    assert [len(pixels) for pixels, _ in part] == [2]
    assert [float(t) for t in part.times()] == pytest.approx([0, 0.1, 0.14, 0.44, 0.49])


def test_a_still_before_the_animation_is_not_part_of_it(tmp_path):
    pictures = moving(4)
    path = save(tmp_path / "a.png", pictures, duration=[100] * 3, default_image=True)
    assert np.array_equal(load(path).frames.numpy(), np.stack(pictures[1:]))


def test_transparent_parts_lie_on_the_background(tmp_path):
    picture = np.zeros((16, 16, 4), np.uint8)
    picture[:, 8:] = (200, 30, 30, 255)
    path = save(tmp_path / "a.png", [picture, picture[:, ::-1].copy()], duration=100)
    frames = load(path, settings=ReadSettings(background=(0, 90, 200))).frames
    assert frames[0, 8, 2].tolist() == [0, 90, 200]
    assert frames[0, 8, 13].tolist() == [200, 30, 30]


@pytest.mark.parametrize("name", ["a.webp", "a.png"])
def test_one_picture_is_no_animation(tmp_path, name):
    save(tmp_path / name, moving(1), lossless=True)
    assert probe(tmp_path / name).is_images


@pytest.mark.parametrize("name", ["b.webp", "b.png"])
def test_an_animation_in_a_folder_of_images_is_refused(tmp_path, name):
    save(tmp_path / "a.png", moving(1))
    save(tmp_path / name, moving(3), duration=100, lossless=True)
    said = refused(tmp_path)
    assert f"{name} is an animation, and each file of a folder is one picture; give it by itself" in said


@pytest.mark.parametrize("left", [0.4, 0.8])
@pytest.mark.parametrize("name", ["a.webp", "a.png"])
def test_an_animation_that_ends_early(tmp_path, name, left):
    noise = [np.random.default_rng(i).integers(0, 256, (48, 64, 3)).astype(np.uint8) for i in range(6)]
    path = save(tmp_path / name, noise, duration=100, loop=0, lossless=True)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * left)])
    assert refused(path)


@pytest.mark.parametrize(
    ("kind", "loop"), [("gif", None), ("gif", 0), ("gif", 3), ("png", 1), ("png", 0), ("webp", 1)]
)
def test_gifs_are_played_as_often_as_their_sources(tmp_path, kind, loop):
    options = {} if loop is None else {"loop": loop}
    source = save(tmp_path / f"a.{kind}", moving(3), duration=100, **options)
    info = probe(source)
    clip = load(source)
    with VideoWriter(tmp_path / "b.gif", info.width, info.height, audio_from=info) as writer:
        writer.write(clip.frames, clip.timestamps, clip.end_time)
    with Image.open(tmp_path / "b.gif") as image:
        once = loop is None or (kind != "gif" and loop == 1)
        assert image.info.get("loop") == (None if once else loop)


@pytest.mark.parametrize("rate", [60, 120, 240, Fraction(60000, 1001), 50, 30])
def test_gifs_keep_the_length_of_fast_clips(tmp_path, rate):
    import torch

    frames = torch.from_numpy(np.stack(moving(60)))
    with VideoWriter(tmp_path / "a.gif", 64, 48, rate=rate) as writer:
        writer.write(frames[:30])
        writer.write(frames[30:])
    clip = load(tmp_path / "a.gif")
    assert writer.held_count == len(clip.frames)
    told = [f"so it holds {len(clip.frames)} of the 60 frames" in warning for warning in writer.warnings]
    assert told == ([True] if rate > 50 else [])
    assert len(clip.frames) == 60 or rate > 50
    assert float(clip.end_time) == pytest.approx(60 / float(rate), abs=0.011)
    gaps = [b - a for a, b in zip(clip.timestamps, clip.timestamps[1:], strict=False)]
    assert min(gaps) >= Fraction(2, 100)


def test_numbers_with_a_sign_are_counted(tmp_path):
    for number in (-2, -1, 0, 1, 2):
        Image.new("L", (8, 8), 80 + 40 * number).save(tmp_path / f"{number:05d}.png")
    assert [int(frame[0, 0, 0]) for frame in load(tmp_path).frames] == [0, 40, 80, 120, 160]


@pytest.mark.parametrize(
    "names",
    [
        ["frame-1.png", "frame-2.png", "frame-10.png"],
        ["2024-01-02.png", "2024-01-10.png"],
        ["a_-2.png", "a_-1.png", "a_0.png", "a_1.png"],
        ["a9.png", "a10.png", "a-b.png"],
    ],
)
def test_hyphens_that_are_no_signs(tmp_path, names):
    assert [path.name for path in sorted((tmp_path / name for name in names), key=natural_key)] == names


@pytest.mark.parametrize("compressed", [True, False])
def test_texts_of_any_size_are_no_matter(tmp_path, compressed):
    texts = PngImagePlugin.PngInfo()
    texts.add_text("prompt", "a" * 3_000_000, zip=compressed)
    Image.new("RGB", (16, 16), (90, 120, 60)).save(tmp_path / "a.png", pnginfo=texts)
    assert load(tmp_path / "a.png").frames[0, 8, 8].tolist() == [90, 120, 60]


def test_the_rate_of_a_folder_can_be_told(tmp_path):
    for index, picture in enumerate(moving(3)):
        Image.fromarray(picture).save(tmp_path / f"{index}.png")
    clip = load(tmp_path, settings=ReadSettings(image_rate=Fraction(24)))
    assert clip.timestamps == (0, Fraction(1, 24), Fraction(2, 24))
