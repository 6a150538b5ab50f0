"""Mutated clips, images and sounds: each is read, or is one sentence of a ClipError."""

import io

import numpy as np
import pytest
from PIL import Image, features

from evenreel.errors import ClipError, OutputError
from evenreel.video import VideoWriter, load, open_clip, probe
from fuzz.mutation import with_bytes, with_bytes_anywhere
from fuzz.trying import Reader, hunt
from video.making import moving, smooth, write_clip

MOVIES = {
    "mp4": {"audio": "aac"},
    "mov": {"audio": "pcm_s16le"},
    "mkv": {"audio": "libopus", "audio_rate": 48_000},
    "webm": {"codec": "libvpx", "audio": "libopus", "audio_rate": 48_000, "options": {"b": "1M"}},
    "avi": {"codec": "mpeg4", "audio": "mp3"},
    "ts": {"codec": "mpeg2video", "audio": "mp2"},
    "flv": {"audio": "aac"},
}
PICTURES = ("png", "jpg", "webp", "bmp")
ANIMATIONS = ("gif", "webp", "png", "avif")


def movie(path):
    for _, _ in open_clip(path, allow_damaged=True):
        pass
    load(path, 0, 2)


def sounding(path):
    """An edit's way: the clip is read, and what is written beside its sound is read back."""
    target = path.with_name("written.mp4")
    info = probe(path)
    stream = open_clip(path, allow_damaged=True)
    with VideoWriter(
        target, info.width, info.height, audio_from=info, audio_range=stream.audio_range
    ) as writer:
        for pixels, times in stream:
            writer.write(pixels, times, stream.end_time)
        writer.finish()


def picture(path):
    load(path)


def folder_of(path):
    load(path.parent)


def saved(path, images, **details):
    content = io.BytesIO()
    images[0].save(content, path.suffix[1:].replace("jpg", "jpeg"), **details)
    path.write_bytes(content.getvalue())
    return path


def reader_of(kind, folder):
    sort, name = kind.split()
    path = folder / "clip" / f"a.{name}"
    path.parent.mkdir()
    if sort in ("movie", "sound"):
        write_clip(path, smooth(6, 32, 24), **MOVIES[name])
        return Reader(
            path,
            movie if sort == "movie" else sounding,
            (with_bytes, with_bytes_anywhere),
            ClipError if sort == "movie" else (ClipError, OutputError),
        )
    if name == "avif" and not features.check("avif"):
        pytest.skip("this Pillow writes no AVIF: it does from 11.3 on")
    images = [Image.fromarray(np.ascontiguousarray(one)) for one in moving(4, 32, 24)]
    if sort == "picture":
        exif = Image.Exif()
        exif[0x0112] = 6
        details = {} if name == "bmp" else {"exif": exif}
        saved(path, images, **details)
    else:
        saved(path, images, save_all=True, append_images=images[1:], duration=40)
    return Reader(
        path, folder_of if sort == "picture" else picture, (with_bytes, with_bytes_anywhere), ClipError
    )


@pytest.mark.parametrize(
    "kind",
    [
        *(f"movie {name}" for name in MOVIES),
        *(f"sound {name}" for name in MOVIES),
        *(f"picture {name}" for name in PICTURES),
        *(f"animation {name}" for name in ANIMATIONS),
    ],
)
def test_mutated_clips_are_read_or_one_sentence(kind, seconds, tmp_path):
    hunt(kind, reader_of(kind, tmp_path), seconds, tmp_path)
