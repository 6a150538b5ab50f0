"""Clips that went wrong in other programs, made after public reports: what is right stands beside them.

Those of the files that the table there gives figures for; each kind has tests of its own that make their clips.
"""

from pathlib import Path

import av
import numpy as np
import pytest

from evenreel.video import VideoWriter, WriteSettings, load, open_clip
from hosts import golden
from video.making import heard


def file(name: str) -> Path:
    """One of the clips; skips the test where they are not at hand."""
    return golden.beside(f"reports/clips/{name}")


def rewrite(name: str, target: Path) -> VideoWriter:
    stream = open_clip(file(name))
    info = stream.info
    with VideoWriter(
        target, info.width, info.height, audio_from=info, audio_range=stream.audio_range,
        settings=WriteSettings(preset="ultrafast", crf=4),
    ) as writer:  # fmt: skip
        for pixels, times in stream:
            writer.write(pixels, times, stream.end_time)
    return writer


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
@pytest.mark.parametrize(
    ("name", "frames", "seconds"),
    [
        ("60fps.mp4", 60, 1.0),
        ("bframes.avi", 25, 1.0),
        ("camera_11024hz.avi", 10, 1.0),
        ("fields.mp4", 10, 0.4),
        ("hold.gif", 4, 3.3),
        ("joined.ts", 20, 2.0),
        ("late_pictures.mov", 17, 1.7),
        ("moving.avif", 10, 1.0),
        ("moving.webp", 10, 1.0),
        ("mp3_11025hz.avi", 10, 1.2),
        ("same_time_twice.mkv", 10, 1.0),
        ("starts_mid_gop.ts", 20, 2.0),
        ("subtitle_lasts_longer.mkv", 10, 1.0),
        ("trimmed_on_a_phone.mp4", 10, 1.0),
        ("unknown_sound_second.mov", 10, 1.0),
        ("much_text.png", 1, 0.125),
    ],
)
def test_frames_and_length(tmp_path, name, frames, seconds, suffix):
    target = tmp_path / f"a{suffix}"
    rewrite(name, target)
    clip = load(target)
    assert float(clip.end_time - clip.timestamps[0]) == pytest.approx(seconds, abs=0.011)
    assert len(clip.frames) == (40 if (name, suffix) == ("60fps.mp4", ".gif") else frames)


@pytest.mark.parametrize(
    "name",
    ["camera_11024hz.avi", "mp3_11025hz.avi", "joined.ts", "same_time_twice.mkv", "trimmed_on_a_phone.mp4"],
)
@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_sound_is_there(tmp_path, name, suffix):
    rewrite(name, tmp_path / f"a{suffix}")
    samples, rate = heard(tmp_path / f"a{suffix}")
    assert np.abs(samples[rate // 5 : rate // 2]).max() > 0.02


def test_the_streams_that_players_show(tmp_path):
    assert load(file("preview_first.mp4")).frames.shape[1:3] == (64, 96)
    rewrite("commentary_first.mkv", tmp_path / "a.mp4")
    samples, rate = heard(tmp_path / "a.mp4")
    part = samples[rate // 10 : rate // 10 * 6]
    assert np.abs(np.fft.rfft(part)).argmax() * rate / len(part) == pytest.approx(880, abs=5)


@pytest.mark.parametrize("suffix", [".mov", ".webm", ".mp4"])
def test_six_channels_stay_six(tmp_path, suffix):
    rewrite("surround.mkv", tmp_path / f"a{suffix}")
    with av.open(str(tmp_path / f"a{suffix}")) as container:
        assert container.streams.audio[0].layout.nb_channels == 6


def test_colours():
    for name, wanted in (("display_p3.mp4", (216, 68, 49)), ("much_text.png", (90, 120, 60))):
        clip = load(file(name))
        middle = clip.frames[0, clip.info.height // 2, clip.info.width // 2].int().numpy()
        assert np.abs(middle - wanted).max() <= 3
    levels = [int(frame[0, 0, 0]) for frame in load(file("negative_numbers")).frames]
    assert levels == [0, 40, 80, 120, 160]


def test_an_odd_size_is_said(tmp_path):
    assert "4:4:4" in rewrite("odd_size.gif", tmp_path / "a.mp4").warnings[0]
