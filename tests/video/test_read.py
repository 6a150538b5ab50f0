"""Reading: what comes out is what was put in, upright, with its timestamps."""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import torch
from av.video.reformatter import Colorspace
from PIL import Image

from evenreel.errors import ClipError, SettingsError
from evenreel.video import ReadSettings, load, open_clip, probe
from evenreel.video.orientation import DISPLAY_MATRIX, Orientation
from evenreel.video.read import upright
from video.making import CORNERS, corners, moving, psnr, smooth, write_clip


def corner_names(picture) -> list[str]:
    """Names of the colours at the four corners, row by row."""
    height, width = picture.shape[:2]
    names = []
    for y, x in product((height // 8, height - 1 - height // 8), (width // 8, width - 1 - width // 8)):
        distance = {n: np.abs(np.asarray(picture[y, x], float) - c).sum() for n, c in CORNERS.items()}
        names.append(min(distance, key=distance.__getitem__))
    return names


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format"),
    [
        ("a.mp4", "libx264", "yuv420p"),
        ("a.mov", "libx264", "yuv420p"),
        ("a.mkv", "libx264", "yuv444p"),
        ("a.webm", "libvpx-vp9", "yuv420p"),
        ("a.avi", "mpeg4", "yuv420p"),
        ("a.mkv", "ffv1", "bgr0"),
        ("a.ts", "mpeg2video", "yuv420p"),
        ("a.mp4", "libx265", "yuv420p10le"),
    ],
)
def test_containers_and_codecs(tmp_path, name, codec, pixel_format):
    pictures = smooth(10)
    options = {"x265-params": "log-level=none:pools=1"} if codec == "libx265" else {"b": "4000000"}
    # AVI has no place to name a matrix, so small pictures are taken for BT.601; RGB has none at all
    matrix = {"bgr0": None, "yuv420p": Colorspace.ITU601}.get(pixel_format, Colorspace.ITU709)
    path = write_clip(
        tmp_path / name, pictures, codec=codec, pixel_format=pixel_format, options=options, matrix=matrix
    )
    clip = load(path)
    assert clip.frames.shape == (10, 48, 64, 3)
    assert psnr(clip.frames, np.stack(pictures)) > 30
    gaps = {round(float(b - a), 2) for a, b in zip(clip.timestamps, clip.timestamps[1:], strict=False)}
    assert gaps == {0.04}
    assert float(clip.end_time - clip.timestamps[-1]) == pytest.approx(0.04, abs=0.002)


def test_info_says_what_the_file_declares(tmp_path):
    path = write_clip(tmp_path / "a.mp4", moving(12), rate=Fraction(24000, 1001), audio="aac")
    info = probe(path)
    assert (info.width, info.height, info.frame_count) == (64, 48, 12)
    assert info.average_rate == Fraction(24000, 1001)
    assert info.duration == Fraction(12 * 1001, 24000)
    assert (info.has_audio, info.audio_codec, info.codec) == (True, "aac", "h264")
    assert (info.rotation, info.mirrored, info.is_images, info.hdr) == (0, False, False, False)
    assert info.estimated_frame_count == 12


def test_windows_hold_the_same_frames_as_a_load(tmp_path):
    path = write_clip(tmp_path / "a.mp4", moving(10))
    clip = load(path)
    stream = open_clip(path, window=4)
    windows = list(stream)
    assert [len(pixels) for pixels, _ in windows] == [4, 4, 2]
    assert torch.equal(torch.cat([pixels for pixels, _ in windows]), clip.frames)
    assert sum((times for _, times in windows), ()) == clip.timestamps
    assert (stream.frame_count, stream.end_time) == (10, clip.end_time)
    assert torch.equal(next(iter(stream))[0], windows[0][0])  # a second iteration starts afresh


@pytest.mark.parametrize(("start", "end"), [(0, 3), (2, 7), (9, 10), (4, None), (0, 10)])
def test_ranges_are_half_open(tmp_path, start, end):
    path = write_clip(tmp_path / "a.mp4", moving(10))
    whole, part = load(path), load(path, start, end)
    assert torch.equal(part.frames, whole.frames[start:end])
    assert part.timestamps == whole.timestamps[start:end]
    assert (part.start, part.end) == (start, 10 if end is None else end)
    assert part.is_tail == (end in (None, 10))


@pytest.mark.parametrize(("start", "end"), [(0, 11), (10, None), (10, 12), (5, 200)])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_a_range_beyond_the_end_says_how_many_frames_there_are(tmp_path, name, start, end):
    path = write_clip(tmp_path / name, moving(10))
    with pytest.raises(ClipError, match="has 10 frames"):
        load(path, start, end)


@pytest.mark.parametrize(("start", "end"), [(-1, None), (3, 3), (5, 2)])
def test_an_empty_range_is_refused(tmp_path, start, end):
    path = write_clip(tmp_path / "a.mp4", moving(10))
    with pytest.raises(ClipError, match="START < END"):
        open_clip(path, start, end)


def test_a_clip_that_does_not_fit_into_memory_is_refused(tmp_path):
    path = write_clip(tmp_path / "a.mp4", moving(10))
    with pytest.raises(ClipError, match="frames"):
        load(path, settings=ReadSettings(max_clip_bytes=64 * 48 * 3 * 5))


@pytest.mark.parametrize("orientation", list(product((False, True), repeat=3)))
def test_orientations_agree_with_their_matrix(orientation):
    transposed, left_right, top_bottom = orientation
    across, down = (-1 if left_right else 1) << 16, (-1 if top_bottom else 1) << 16
    matrix = (0, down, 0, across, 0) if transposed else (across, 0, 0, 0, down)
    found = Orientation.from_display_matrix(DISPLAY_MATRIX.pack(*matrix, 0, 0, 0, 1 << 30))
    assert found == Orientation(
        transposed=transposed, flipped_left_right=left_right, flipped_top_bottom=top_bottom
    )
    picture = torch.arange(6 * 3, dtype=torch.uint8).reshape(1, 2, 3, 3)
    turned = picture.flip(2) if found.mirrored else picture
    turned = torch.rot90(turned, -found.rotation // 90, (1, 2))
    assert torch.equal(upright(picture, found), turned)
    assert found.size(3, 2) == (turned.shape[2], turned.shape[1])


@pytest.mark.parametrize(
    ("matrix", "colorspace", "full_range", "size"),
    [
        (Colorspace.ITU709, 1, False, (64, 48)),
        (Colorspace.ITU601, 6, False, (64, 48)),
        (Colorspace.ITU601, 5, True, (64, 48)),
        (Colorspace.BT2020, 9, False, (64, 48)),
        (Colorspace.ITU601, 2, False, (64, 48)),  # untagged and small: BT.601
        (Colorspace.ITU709, 2, False, (1280, 72)),  # untagged and wide: BT.709
    ],
)
def test_matrix_and_range_are_honoured(tmp_path, matrix, colorspace, full_range, size):
    pictures = smooth(2, *size)
    path = write_clip(
        tmp_path / "a.mp4", pictures, matrix=matrix, full_range=full_range, tags={"colorspace": colorspace}
    )
    assert psnr(load(path).frames, np.stack(pictures)) > 38


def test_gif_keeps_pictures_and_times(tmp_path):
    pictures = [Image.fromarray(p) for p in moving(5)]
    path = tmp_path / "a.gif"
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=[100, 50, 200, 100, 70])
    clip = load(path)
    assert clip.timestamps == tuple(Fraction(t, 100) for t in (0, 10, 15, 35, 45))
    assert psnr(clip.frames, np.stack(moving(5))) > 40


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.bmp"])
def test_a_single_image_is_a_clip_of_one_frame(tmp_path, name):
    Image.fromarray(smooth(1)[0]).save(tmp_path / name, quality=95)
    clip = load(tmp_path / name)
    assert clip.frames.shape == (1, 48, 64, 3)
    assert psnr(clip.frames[0], smooth(1)[0]) > 33
    assert (clip.info.frame_count, clip.timestamps, clip.end_time) == (1, (0,), Fraction(1, 8))


def test_a_folder_of_images_is_sorted_by_number(tmp_path):
    for index in (10, 9, 2, 1):
        Image.fromarray(np.full((48, 64, 3), index, np.uint8)).save(tmp_path / f"frame{index}.png")
    (tmp_path / "notes.txt").write_text("not a frame")
    (tmp_path / ".hidden.png").write_bytes(b"neither")
    clip = load(tmp_path, settings=ReadSettings(image_rate=Fraction(4)))
    assert clip.frames[:, 0, 0, 0].tolist() == [1, 2, 9, 10]
    assert clip.timestamps == tuple(Fraction(i, 4) for i in range(4))
    assert load(tmp_path, 1, 3).frames[:, 0, 0, 0].tolist() == [2, 9]
    assert clip.info.is_images


def test_a_folder_of_mixed_sizes_names_the_odd_one(tmp_path):
    Image.fromarray(corners()).save(tmp_path / "1.png")
    Image.fromarray(corners(32, 32)).save(tmp_path / "2.png")
    with pytest.raises(ClipError, match=r"2\.png is 32 x 32"):
        probe(tmp_path)


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(ClipError, match="holds no images"):
        probe(tmp_path)


def test_photos_are_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned clockwise
    Image.fromarray(corners()).save(tmp_path / "a.png", exif=exif)
    clip = load(tmp_path / "a.png")
    assert (clip.info.width, clip.info.height) == (48, 64)
    assert corner_names(clip.frames[0]) == ["blue", "red", "grey", "green"]


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "1", "I;16", "LA"])
def test_image_modes_become_rgb(tmp_path, mode):
    name = "a.jpg" if mode == "CMYK" else "a.png"
    ramp = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (48, 1))
    if mode == "I;16":
        image = Image.fromarray(ramp.astype(np.uint16) * 257)
    else:
        image = Image.fromarray(ramp).convert(mode)
    image.save(tmp_path / name)
    frames = load(tmp_path / name).frames
    assert frames.shape == (1, 48, 64, 3)
    if mode != "1":
        assert psnr(frames[0, ..., 0], ramp) > 30


def test_settings_check_themselves():
    for wrong in ({"max_pixels": 0}, {"image_rate": Fraction(0)}, {"background": (0, 0, 256)}):
        with pytest.raises(SettingsError):
            ReadSettings(**wrong)


@pytest.mark.parametrize("kind", ["video", "images"])
def test_picked_frames_are_those_that_a_whole_reading_gives(tmp_path, kind):
    path = tmp_path / ("a.mp4" if kind == "video" else "a")
    if kind == "video":
        write_clip(path, moving(12))
    else:
        path.mkdir()
        for index, picture in enumerate(moving(12)):
            Image.fromarray(picture).save(path / f"{index}.png")
    whole = load(path)
    stream = open_clip(path)
    assert stream.times() == list(whole.timestamps)
    picked = dict(stream.pick([7, 2, 11]))
    assert list(picked) == [2, 7, 11]
    assert all(torch.equal(picked[n][0], whole.frames[n]) for n in picked)


def test_times_of_a_damaged_clip_are_an_error(tmp_path):
    path = write_clip(tmp_path / "a.mp4", moving(40))
    path.write_bytes(path.read_bytes()[:-900])
    with pytest.raises(ClipError):
        open_clip(path).times()
