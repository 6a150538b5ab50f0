"""Clips from cameras and editing programs, where they are at hand: sound to the byte, and every frame in its place."""

import pytest

from evenreel.video import VideoWriter, WriteSettings, open_clip, probe
from hosts import golden
from video.making import audio_packets


@pytest.mark.parametrize("name", ["man-skiing.mp4", "mallard-water.mp4"])
def test_a_rewrite_keeps_sound_count_rate_and_duration(tmp_path, name):
    source = golden.beside(f"clips/{name}")
    stream = open_clip(source)
    before = stream.info
    with VideoWriter(
        tmp_path / name,
        before.width,
        before.height,
        audio_from=before,
        audio_range=stream.audio_range,
        settings=WriteSettings(preset="ultrafast", crf=30),
    ) as writer:
        for pixels, times in stream:
            writer.write(pixels, times, stream.end_time)
    after = probe(tmp_path / name)
    assert audio_packets(tmp_path / name) == audio_packets(source)
    assert writer.frame_count == after.frame_count == before.frame_count
    assert after.average_rate == before.average_rate
    assert after.duration == before.duration
    assert (after.width, after.height) == (before.width, before.height)
    written = open_clip(tmp_path / name)
    assert sum((times for _, times in written), ()) == sum((times for _, times in stream), ())
