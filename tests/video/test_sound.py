"""Sound never costs an edit: what a result can carry is found first, and what it cannot is said."""

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from evenreel.errors import SettingsError
from evenreel.video import VideoWriter, WriteSettings, load, open_clip, probe
from evenreel.video.audio import SoundPlan
from video.making import AAC_RATE, heard, joined, moving, remuxed, sine, write_clip

QUICK = WriteSettings(preset="ultrafast", crf=10)
SYNC = 0.02
"""Seconds that sound may be off its pictures."""


def rewrite(source: Path, target: Path, start: int = 0, end: int | None = None, **settings) -> VideoWriter:
    """Write a clip, or a part of it, out again with its sound."""
    stream = open_clip(source, start, end, window=4)
    quick = WriteSettings(preset="ultrafast", crf=10, **settings)
    info = stream.info
    with VideoWriter(
        target, info.width, info.height, audio_from=info, audio_range=stream.audio_range, settings=quick
    ) as writer:
        for pixels, times in stream:
            writer.write(pixels, times, stream.end_time)
    return writer


def pitch_of(path: Path) -> float:
    samples, rate = heard(path)
    part = samples[rate // 10 : rate // 2]
    return float(np.abs(np.fft.rfft(part)).argmax() * rate / len(part))


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv", "a.webm"])
@pytest.mark.parametrize(
    ("codec", "rate", "layout", "form"),
    [
        ("pcm_u8", 11024, "mono", "u8"),
        ("pcm_s16le", 22254, "stereo", "s16"),
        ("pcm_s16le", 192_000, "stereo", "s16"),
        ("pcm_mulaw", 8000, "mono", "s16"),
        ("adpcm_ms", 5512, "mono", "s16"),
        ("libmp3lame", 11025, "mono", "fltp"),
    ],
)
def test_any_rate_is_heard(tmp_path, name, codec, rate, layout, form):
    source = write_clip(
        tmp_path / "s.avi", moving(10), rate=10, codec="mjpeg", pixel_format="yuvj420p", matrix=None,
        audio=codec, audio_rate=rate, audio_layout=layout, audio_format=form,
    )  # fmt: skip
    writer = rewrite(source, tmp_path / name)
    assert writer.warnings == []
    assert pitch_of(tmp_path / name) == pytest.approx(440, abs=5)
    assert len(load(tmp_path / name).frames) == 10


def test_what_can_be_copied_is(tmp_path):
    source = write_clip(tmp_path / "s.mkv", moving(10), audio="aac")
    plan = VideoWriter(tmp_path / "a.mp4", 64, 48, audio_from=probe(source)).sound
    assert plan == SoundPlan(track=1, codec="aac", copied=True)
    again = VideoWriter(
        tmp_path / "a.mp4", 64, 48, audio_from=probe(source), settings=WriteSettings(sound="encode")
    )
    assert again.sound == SoundPlan(track=1, codec="aac", copied=False, rate=48000, layout="stereo")
    assert list(tmp_path.iterdir()) == [source]  # a rehearsal leaves nothing behind


def test_a_timestamp_that_occurs_twice(tmp_path):
    whole = write_clip(tmp_path / "s.mkv", moving(25), audio="aac")
    counted = iter(range(10**6))

    def doubled(packet) -> bool:
        if packet.stream.type == "audio" and next(counted) == 20:
            packet.pts = packet.dts = packet.pts - 21
        return True

    rewrite(remuxed(whole, tmp_path / "t.mkv", doubled), tmp_path / "a.mp4")
    assert pitch_of(tmp_path / "a.mp4") == pytest.approx(440, abs=5)
    samples, rate = heard(tmp_path / "a.mp4")
    assert np.abs(samples).nonzero()[0][-1] / rate == pytest.approx(1.0, abs=0.05)


def clicks(seconds: float, at: list[float]) -> np.ndarray:
    """Silence with a short tone that begins at each of some seconds."""
    line = np.zeros(round(seconds * AAC_RATE), np.float32)
    for second in at:
        begin = round(second * AAC_RATE)
        line[begin : begin + 2400] = sine(0.05, pitch=1000)
    return line


def flashes(count: int, white: set[int]) -> list[np.ndarray]:
    return [np.full((48, 64, 3), 255 if index in white else 0, np.uint8) for index in range(count)]


def starts(path: Path) -> tuple[list[float], list[float]]:
    """Seconds at which pictures turn white, and at which it begins to sound."""
    clip = load(path)
    bright = clip.frames.float().mean((1, 2, 3)) > 128
    seen = [
        float(clip.timestamps[i]) for i in range(len(bright)) if bright[i] and not (i > 0 and bright[i - 1])
    ]
    samples, rate = heard(path)
    loud = np.abs(samples) > 0.1
    gaps = np.flatnonzero(loud)
    begins = [gaps[0], *gaps[1:][np.diff(gaps) > rate // 10]]
    return seen, [begin / rate for begin in begins]


@pytest.mark.parametrize(
    ("name", "sound"),
    [("a.mp4", "copy"), ("a.mp4", "encode"), ("a.mov", "copy"), ("a.mkv", "copy"), ("a.webm", "copy")],
)
@pytest.mark.parametrize(
    ("source", "codec", "form"),
    [
        ("s.mp4", "aac", "fltp"),
        ("s.mkv", "flac", "s16"),  # packets of 93 ms
        ("s.avi", "pcm_s16le", "s16"),
        ("s.avi", "libmp3lame", "fltp"),  # times in whole packets
        ("s.mkv", "libopus", "flt"),
    ],
)
def test_a_part_has_its_own_sound_and_no_other(tmp_path, source, codec, form, sound, name):
    """Tones of 440, 880 and 1760 Hz; the part is that of 880 Hz, frames 13 to 40."""
    rate = 48000
    begin, end = (round(frame / 25 * rate) for frame in (13, 40))
    tone = np.concatenate(
        [sine(begin / rate, rate), sine((end - begin) / rate, rate, 880), sine(1, rate, 1760)]
    )
    video = "mpeg4" if source.endswith("avi") else "libx264"
    clip = write_clip(
        tmp_path / source, moving(65), codec=video, options={"bf": "0"}, audio=codec, audio_format=form,
        audio_rate=rate, tone=tone,
    )  # fmt: skip
    late = 0.025 if codec == "libmp3lame" else 0.0  # what its encoder puts in front, in the source already
    late -= float(load(clip, 13, 14).timestamps[0]) - 13 / 25
    writer = rewrite(clip, tmp_path / name, 13, 40, sound=sound)
    assert writer.warnings == []
    pictures = load(tmp_path / name)
    first, last = float(pictures.timestamps[0]), float(pictures.end_time)
    samples, rate = heard(tmp_path / name)
    loud = np.flatnonzero(np.abs(samples) > 0.03) / rate
    assert loud[0] == pytest.approx(first, abs=SYNC)
    assert loud[-1] == pytest.approx(last, abs=SYNC)
    for pitch, other, begins, ends in ((880, 440, first, first + 0.1), (880, 1760, last - 0.1, last)):
        begins, ends = begins + max(0.0, late) + SYNC / 2, ends + min(0.0, late) - SYNC / 2
        part = samples[round(begins * rate) : round(ends * rate)]
        line = np.exp(-2j * np.pi * np.arange(len(part)) / rate * np.array([[pitch], [other]]))
        right, wrong = np.abs(line @ part)
        assert right > 8 * wrong


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.webm"])
def test_a_clock_that_restarts_keeps_step(tmp_path, name):
    part = write_clip(
        tmp_path / "p.ts", flashes(25, {10, 11}), options={"preset": "ultrafast", "bf": "0"}, audio="aac",
        tone=clicks(1, [0.4]),
    )  # fmt: skip
    rewrite(joined(tmp_path / "s.ts", part, part, part), tmp_path / name)
    seen, sounded = starts(tmp_path / name)
    assert seen == pytest.approx([0.4, 1.4, 2.4], abs=0.03)  # Matroska moves all by the codec's run-up
    assert sounded == pytest.approx(seen, abs=SYNC)


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv", "a.webm"])
@pytest.mark.parametrize("late", [0.05, 0.5])
def test_pictures_that_begin_after_the_sound_keep_step(tmp_path, late, name):
    source = write_clip(
        tmp_path / "s.mkv", flashes(50, {20, 40}), audio="libopus", tone=clicks(3, [0.8 + late, 1.6 + late]),
        times=[round(late * 1000) + 40 * i for i in range(50)], time_base=Fraction(1, 1000),
        options={"bf": "0"},
    )  # fmt: skip
    for sound in ("copy", "encode"):
        rewrite(source, tmp_path / name, sound=sound)
        seen, sounded = starts(tmp_path / name)
        assert sounded == pytest.approx(seen, abs=SYNC)
        assert len(seen) == 2


@pytest.mark.parametrize(("name", "sound"), [("a.gif", "copy"), ("a.mp4", "none"), ("a", "copy")])
def test_without_their_sound_late_pictures_begin_at_once(tmp_path, name, sound):
    source = write_clip(
        tmp_path / "s.mkv", moving(10), audio="libopus", audio_seconds=1, options={"bf": "0"},
        times=[700 + 40 * i for i in range(10)], time_base=Fraction(1, 1000),
    )  # fmt: skip
    rewrite(source, tmp_path / name, sound=sound)
    clip = load(tmp_path / name)
    assert (len(clip.frames), clip.timestamps[0]) == (10, 0)


def trimmed(source: Path, target: Path, begin: float, lasts: float) -> Path:
    """A copy of which an edit list shows `lasts` seconds from `begin` on, as phones trim clips."""
    data, at = bytearray(source.read_bytes()), 0
    for rate in (12800, AAC_RATE):  # pictures, sound
        at = data.index(b"elst", at + 4)
        _, entries, _, first = struct.unpack_from(">IIIi", data, at + 4)
        assert entries == 1
        struct.pack_into(">Ii", data, at + 12, round(lasts * 1000), first + round(begin * rate))
    target.write_bytes(data)
    return target


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv", "a.webm"])
@pytest.mark.parametrize("sound", ["copy", "encode"])
def test_what_an_edit_list_leaves_out_is_not_heard(tmp_path, name, sound):
    whole = write_clip(
        tmp_path / "w.mp4", flashes(50, {10, 11, 30, 31}), audio="aac", tone=clicks(2, [0.05, 0.4, 1.2, 1.6])
    )
    rewrite(trimmed(whole, tmp_path / "s.mp4", 0.2, 1.2), tmp_path / name, sound=sound)
    seen, sounded = starts(tmp_path / name)
    assert len(load(tmp_path / name).frames) == 30
    assert len(seen) == 2
    assert sounded == pytest.approx(seen, abs=SYNC)


@pytest.mark.parametrize("name", ["a.mp4", "a.webm"])
def test_late_sound_and_holes_in_it_keep_step(tmp_path, name):
    whole = write_clip(tmp_path / "s.mkv", flashes(50, {20, 40}), audio="libopus", tone=clicks(2, [0.8, 1.6]))

    def kept(packet) -> bool:
        """Leave out what sounds before 0.5 s, and between 1.1 and 1.4 s."""
        second = packet.pts * packet.time_base
        return packet.stream.type != "audio" or (second > 0.5 and not 1.1 < second < 1.4)

    source = remuxed(whole, tmp_path / "t.mkv", kept)
    for sound in ("copy", "encode"):
        rewrite(source, tmp_path / name, sound=sound)
        seen, sounded = starts(tmp_path / name)
        assert sounded == pytest.approx(seen, abs=SYNC)


def test_sound_that_changes_in_mid_stream(tmp_path):
    parts = [
        write_clip(
            tmp_path / f"{index}.ts", moving(25), options={"preset": "ultrafast", "bf": "0"}, audio="aac",
            audio_rate=rate, audio_layout=layout, tone=sine(1, rate),
        )
        for index, (rate, layout) in enumerate([(48000, "stereo"), (44100, "mono")])
    ]  # fmt: skip
    rewrite(joined(tmp_path / "s.ts", *parts), tmp_path / "a.mp4")
    samples, rate = heard(tmp_path / "a.mp4")
    for second in (0.2, 1.3):
        spectrum = np.abs(np.fft.rfft(samples[round(second * rate) : round((second + 0.5) * rate)]))
        assert spectrum.argmax() * 2 == pytest.approx(440, abs=5)


@pytest.mark.parametrize("layout", ["5.1", "5.1(side)", "7.1", "quad", "3.0"])
@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.webm"])
def test_channels_stay(tmp_path, name, layout):
    source = write_clip(
        tmp_path / "s.mkv", moving(5), audio="pcm_s16le", audio_format="s16", audio_layout=layout
    )
    writer = rewrite(source, tmp_path / name)
    with av.open(str(tmp_path / name)) as container:
        assert container.streams.audio[0].layout.nb_channels == av.AudioLayout(layout).nb_channels
    assert writer.warnings == []


def test_channels_that_cannot_stay_are_told(tmp_path):
    source = write_clip(
        tmp_path / "s.mkv", moving(5), audio="pcm_s16le", audio_format="s16", audio_layout="hexadecagonal"
    )
    writer = rewrite(source, tmp_path / "a.webm")
    assert "16 channels of sound become 2" in writer.warnings[0]
    assert probe(tmp_path / "a.webm").has_audio


def test_sound_that_nothing_here_knows(tmp_path):
    source = write_clip(tmp_path / "s.mp4", moving(10), audio="aac")
    # neither the name of the codec nor what describes it
    source.write_bytes(source.read_bytes().replace(b"mp4a", b"zzzz").replace(b"esds", b"free"))
    writer = VideoWriter(tmp_path / "a.mp4", 64, 48, audio_from=probe(source))
    assert writer.sound is None
    assert "the sound (unknown codec) is left out" in writer.warnings[0]  # before any frame is written


@pytest.mark.parametrize("name", ["a.gif", "frames"])
def test_what_holds_no_sound_says_so(tmp_path, name):
    source = write_clip(tmp_path / "s.mp4", moving(10), audio="aac")
    writer = rewrite(source, tmp_path / name)
    assert len(writer.warnings) == 1
    assert "holds no sound" in writer.warnings[0]
    assert rewrite(source, tmp_path / name, sound="none").warnings == []


def two_tracks(path: Path, languages: tuple[str, str] | None = None) -> Path:
    """A commentary of 440 Hz before the sound of 880 Hz that players choose."""
    first = write_clip(path.with_name("1.mkv"), moving(25), audio="aac")
    second = write_clip(path.with_name("2.mkv"), moving(25), audio="aac", tone=sine(1, pitch=880))
    with av.open(str(first)) as one, av.open(str(second)) as other, av.open(str(path), "w") as output:
        streams = [*one.streams, *other.streams.audio]
        copied = {stream: output.add_stream_from_template(stream) for stream in streams}
        copied[one.streams.audio[0]].disposition = av.stream.Disposition.comment
        copied[other.streams.audio[0]].disposition = av.stream.Disposition.default
        for stream, language in zip(streams[1:], languages or (), strict=False):
            copied[stream].metadata["language"] = language
        for stream in streams:
            for packet in stream.container.demux(stream):
                if packet.size:
                    packet.stream = copied[stream]
                    output.mux(packet)
            stream.container.seek(0)
    return path


@pytest.mark.parametrize(("asked", "pitch"), [(None, 880), (1, 440), (2, 880)])
def test_the_track_that_players_choose_or_the_one_asked_for(tmp_path, asked, pitch):
    writer = rewrite(two_tracks(tmp_path / "s.mkv"), tmp_path / "a.mp4", sound_track=asked)
    assert pitch_of(tmp_path / "a.mp4") == pytest.approx(pitch, abs=5)
    assert writer.sound is not None
    assert writer.sound.track == (asked or 2)


def language_of(path: Path) -> str | None:
    with av.open(str(path)) as container:
        (sound,) = container.streams.audio
        return sound.metadata.get("language")


@pytest.mark.parametrize("source", ["s.mp4", "s.mkv"])
@pytest.mark.parametrize(
    ("name", "sound"), [("a.mp4", "copy"), ("a.mp4", "encode"), ("a.mkv", "copy"), ("a.webm", "encode")]
)
@pytest.mark.parametrize(("asked", "language"), [(None, "deu"), (1, "fra")])
def test_the_language_of_the_sound_is_kept(tmp_path, source, name, sound, asked, language):
    source = two_tracks(tmp_path / source, ("fra", "deu"))
    writer = rewrite(source, tmp_path / name, sound_track=asked, sound=sound)
    assert language_of(tmp_path / name) == language
    assert "the sound's language" not in " ".join(writer.warnings)


@pytest.mark.parametrize(("name", "language"), [("a.mov", "deu"), ("a.mp4", "en-US")])
def test_a_language_that_a_container_cannot_write_is_said_once(tmp_path, name, language):
    source = two_tracks(tmp_path / "s.mkv", ("fra", language))
    writer = rewrite(source, tmp_path / name)
    assert language_of(tmp_path / name) in (None, "und")
    said = f"{Path(name).suffix} has no place for the sound's language ({language}) of the source."
    assert [warning for warning in writer.warnings if "the sound's language" in warning] == [
        f"{tmp_path / name}: {said}"
    ]


def test_a_track_that_is_not_there(tmp_path):
    source = write_clip(tmp_path / "s.mp4", moving(10), audio="aac")
    for clip, held in (
        (source, "has 1 sound track and"),
        (write_clip(tmp_path / "t.mp4", moving(3)), "no sound"),
    ):
        with pytest.raises(SettingsError, match=held):
            VideoWriter(
                tmp_path / "a.mp4", 64, 48, audio_from=probe(clip), settings=WriteSettings(sound_track=3)
            )


def test_sound_that_fails_after_all_leaves_the_pictures(tmp_path, monkeypatch):
    """What the rehearsal let through stops the sound, never the pictures."""
    source = write_clip(tmp_path / "s.avi", moving(10), codec="mpeg4", audio="libmp3lame", audio_rate=11025)
    monkeypatch.setattr(
        "evenreel.video.write.plan_sound",
        lambda *_, **__: (SoundPlan(track=1, codec="mp3", copied=True), ()),
    )
    with VideoWriter(tmp_path / "a.mp4", 64, 48, audio_from=probe(source), settings=QUICK) as writer:
        writer.write(torch.from_numpy(np.stack(moving(10))), [Fraction(i, 25) for i in range(10)])
    assert len(load(tmp_path / "a.mp4").frames) == 10
    assert writer.warnings
