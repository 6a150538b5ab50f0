"""What a result keeps of its source beside pictures and sound, and what is said of the rest."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, features

from evenreel.video import VideoWriter, WriteSettings, open_clip, probe
from video.making import moving, write_clip
from video.test_sound import two_tracks
from video.test_whole_or_damaged import with_subtitle

QUICK = WriteSettings(preset="ultrafast", crf=10)
TOLD = {
    "title": "Moon",
    "artist": "Somebody",
    "date": "2021-05-06",
    "creation_time": "2021-05-06T07:08:09.000000Z",
    "location": "+48.8577+002.2950/",
    "comment": "from the roof",
}


def rewrite(source: Path, target: Path, start: int = 0, end: int | None = None) -> VideoWriter:
    stream = open_clip(source, start, end)
    info = stream.info
    with VideoWriter(
        target, info.width, info.height, audio_from=info, audio_range=stream.audio_range, settings=QUICK
    ) as writer:
        for pixels, times in stream:
            writer.write(pixels, times, stream.end_time)
    return writer


def told(
    path: Path, metadata: dict[str, str], *, timecode: str | None = None, audio: str | None = None
) -> Path:
    """50 frames at 25 a second with metadata, and two chapters of one second each."""
    plain = write_clip(path.with_name(f"plain{path.suffix}"), moving(50), audio=audio)
    with av.open(str(plain)) as given, av.open(str(path), "w") as output:
        copied = {s.index: output.add_stream_from_template(s) for s in given.streams}
        stream = copied[given.streams.video[0].index]
        output.metadata.update(metadata)
        if timecode is not None:
            stream.metadata["timecode"] = timecode
        second = {"time_base": Fraction(1, 1000)}
        output.set_chapters(
            [
                {"id": 1, "start": 0, "end": 1000, "metadata": {"title": "One"}, **second},
                {"id": 2, "start": 1000, "end": 2000, "metadata": {"title": "Two"}, **second},
            ]
        )
        for packet in given.demux():
            if packet.size:
                packet.stream = copied[packet.stream_index]
                output.mux(packet)
    return path


def found(path: Path) -> tuple[dict[str, str], list[tuple[str, float, float]], set[str]]:
    """Metadata, chapters and timecodes of a file."""
    with av.open(str(path)) as container:
        chapters = [
            (c["metadata"]["title"], float(c["start"] * c["time_base"]), float(c["end"] * c["time_base"]))
            for c in container.chapters()
        ]
        codes = {
            value
            for stream in container.streams
            for name, value in stream.metadata.items()
            if name.lower() == "timecode"
        }
        return {name.lower(): value for name, value in container.metadata.items()}, chapters, codes


@pytest.mark.parametrize("source", ["s.mkv", "s.mov"])
@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv", "a.webm"])
@pytest.mark.parametrize("audio", [None, "aac"])
def test_title_date_place_chapters_and_timecode(tmp_path, source, name, audio):
    writer = rewrite(told(tmp_path / source, TOLD, timecode="01:02:03:04", audio=audio), tmp_path / name)
    metadata, chapters, codes = found(tmp_path / name)
    assert TOLD.items() <= metadata.items()
    assert chapters == [("One", 0, 1), ("Two", 1, 2)]
    assert {track.kind for track in probe(tmp_path / name).tracks} <= {"video", "audio", "data"}
    if audio is None and Path(name).suffix in (".mp4", ".mov"):
        assert codes == set()
        assert ["no place for timecode beside chapters without sound" in w for w in writer.warnings] == [True]
    else:
        assert codes == {"01:02:03:04"}
        assert writer.warnings == []


@pytest.mark.parametrize("name", ["a.mp4", "a.mov"])
def test_a_timecode_without_chapters_needs_no_sound(tmp_path, name):
    source = write_clip(tmp_path / "plain.mkv", moving(10))
    with av.open(str(source)) as given, av.open(str(tmp_path / "s.mkv"), "w") as output:
        pictures = output.add_stream_from_template(given.streams.video[0])
        pictures.metadata["timecode"] = "01:02:03:04"
        for packet in given.demux():
            if packet.size:
                packet.stream = pictures
                output.mux(packet)
    writer = rewrite(tmp_path / "s.mkv", tmp_path / name)
    assert found(tmp_path / name)[2] == {"01:02:03:04"}
    assert writer.warnings == []


def test_names_that_phones_use(tmp_path):
    phone = {
        "com.apple.quicktime.location.ISO6709": "+48.8577+002.2950/",
        "com.apple.quicktime.creationdate": "2021-05-06T09:08:09+0200",
        "com.apple.quicktime.make": "Apple",
        "com.apple.quicktime.full-frame-rate-playback-intent": "1",
        "encoder": "a phone",
    }
    rewrite(told(tmp_path / "s.mkv", phone), tmp_path / "a.mov")
    metadata, _, _ = found(tmp_path / "a.mov")
    assert metadata["location"] == "+48.8577+002.2950/"
    assert metadata["date"] == "2021-05-06T09:08:09+0200"
    assert metadata["make"] == "Apple"
    assert "a phone" not in metadata.values()


def test_chapters_of_a_part(tmp_path):
    rewrite(told(tmp_path / "s.mkv", {}, timecode="01:02:03:04"), tmp_path / "a.mp4", 15, 40)
    _, chapters, codes = found(tmp_path / "a.mp4")
    assert [title for title, _, _ in chapters] == ["One", "Two"]
    assert [second for _, *both in chapters for second in both] == pytest.approx(
        [0, 0.4, 0.4, 1.0], abs=0.002
    )
    assert codes == set()


def test_what_a_container_has_no_place_for_is_said_once(tmp_path):
    writer = rewrite(told(tmp_path / "s.mkv", {"title": "Moon", "odd_name": "x"}), tmp_path / "a.mp4")
    assert [w for w in writer.warnings if "has no place for odd_name" in w] == writer.warnings
    writer = rewrite(tmp_path / "s.mkv", tmp_path / "a.gif")
    assert [w for w in writer.warnings if "chapters, odd_name, title" in w] == writer.warnings


def test_streams_that_stay_behind_are_said_once(tmp_path):
    assert (
        "not carried over: 1 other sound track."
        in rewrite(two_tracks(tmp_path / "s.mkv"), tmp_path / "a.mp4").warnings[0]
    )
    assert (
        "not carried over: 1 subtitle track."
        in rewrite(with_subtitle(tmp_path), tmp_path / "b.mp4").warnings[0]
    )


def test_a_subtitle_of_mp4_is_said_and_titles_of_chapters_are_not(tmp_path):
    source = told(tmp_path / "s.mp4", {}, timecode="01:02:03:04")
    assert [track.holds for track in probe(source).tracks] == ["", "chapters", "timecode"]
    assert not [w for w in rewrite(source, tmp_path / "a.mkv").warnings if "not carried over" in w]
    with av.open(str(source)) as given, av.open(str(tmp_path / "t.mp4"), "w") as output:
        pictures = output.add_stream_from_template(given.streams.video[0])
        text = output.add_mux_stream("mov_text")
        text.time_base = Fraction(1, 1000)
        for packet in given.demux(given.streams.video[0]):
            if packet.size:
                packet.stream = pictures
                output.mux(packet)
        line = av.Packet(b"\x00\x05Hello")
        line.pts, line.dts, line.duration, line.time_base = 0, 0, 1000, Fraction(1, 1000)
        line.stream = text
        output.mux(line)
    warnings = rewrite(tmp_path / "t.mp4", tmp_path / "b.mkv").warnings
    assert [w for w in warnings if "not carried over: 1 subtitle track" in w] == warnings != []


@pytest.mark.parametrize("transparent", [True, False])
@pytest.mark.parametrize("kind", ["images", "animation", "video"])
def test_transparency_that_is_lost_is_said_once(tmp_path, caplog, kind, transparent):
    pictures = [np.full((48, 64, 4), (60 * index, 90, 120, 255), np.uint8) for index in range(4)]
    pictures[2][:8, :8, 3] = 100 if transparent else 255
    if kind == "video":
        source = write_clip(tmp_path / "s.mov", pictures, codec="qtrle", pixel_format="argb", matrix=None)
    elif kind == "animation":
        source, images = tmp_path / "s.webp", [Image.fromarray(picture) for picture in pictures]
        images[0].save(source, save_all=True, append_images=images[1:], lossless=True)
    else:
        source = tmp_path / "images"
        source.mkdir()
        for index, picture in enumerate(pictures):
            Image.fromarray(picture).save(source / f"{index}.png")
    stream = open_clip(source, window=2)
    with caplog.at_level("WARNING", "evenreel"):
        for _ in range(2):
            assert sum(len(pixels) for pixels, _ in stream) == 4
    assert len(stream.warnings) == caplog.text.count("hold no transparency") == int(transparent)


@pytest.mark.parametrize("transparent", [True, False])
@pytest.mark.parametrize("count", [1, 4])
def test_transparency_in_a_stream_of_its_own_is_said(tmp_path, transparent, count):
    if not features.check("avif"):
        pytest.skip("this Pillow writes no AVIF")
    images = [
        Image.new("RGBA", (64, 48), (50 * i, 90, 120, 100 if transparent else 255)) for i in range(count)
    ]
    images = images if transparent else [image.convert("RGB") for image in images]
    images[0].save(tmp_path / "a.avif", save_all=count > 1, append_images=images[1:])
    stream = open_clip(tmp_path / "a.avif")
    assert sum(len(pixels) for pixels, _ in stream) == count
    assert ["a stream of its own, is not read" in warning for warning in stream.warnings] == [
        True
    ] * transparent


def test_odd_sizes_that_do_not_play_everywhere_are_said(tmp_path):
    source = write_clip(tmp_path / "s.mkv", moving(2, 63, 47), codec="ffv1", pixel_format="bgr0", matrix=None)
    assert "4:4:4" in rewrite(source, tmp_path / "a.mp4").warnings[0]
    assert rewrite(source, tmp_path / "a.webm").warnings == []
