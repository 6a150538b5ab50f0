"""Writing: pictures, times and sound survive, and a result appears whole or not at all."""

import math
import stat
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from evenreel.errors import OutputError, SettingsError
from evenreel.video import VideoInfo, VideoWriter, WriteSettings, load, open_clip, probe
from video.making import audio_packets, corners, moving, psnr, smooth, write_clip

QUICK = WriteSettings(preset="ultrafast", crf=10)


def pixels_of(pictures) -> torch.Tensor:
    return torch.from_numpy(np.stack(pictures))


def rewrite(source: Path, target: Path, start: int = 0, end: int | None = None) -> VideoInfo:
    """Read a range in windows and write it out again, with its sound."""
    stream = open_clip(source, start, end, window=4)
    with VideoWriter(
        target,
        stream.info.width,
        stream.info.height,
        audio_from=stream.info,
        audio_range=stream.audio_range,
        settings=QUICK,
    ) as writer:
        for pixels, times in stream:
            writer.write(pixels, times, stream.end_time)
    return probe(target)


def sound_span(path: Path) -> tuple[float, float]:
    """Seconds at which packets of sound begin and end."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        packets = [p for p in container.demux(stream) if p.size]
    assert stream.time_base is not None
    first, last = packets[0], packets[-1]
    return float(first.pts * stream.time_base), float((last.pts + last.duration) * stream.time_base)


@pytest.mark.parametrize(
    ("name", "least"), [("a.mp4", 40), ("a.mov", 40), ("a.mkv", 40), ("a.webm", 34), ("a.gif", 27), ("a", 99)]
)
def test_pictures_survive(tmp_path, name, least):
    frames = pixels_of(smooth(8))
    with VideoWriter(tmp_path / name, 64, 48, rate=8, settings=QUICK) as writer:
        writer.write(frames[:5])
        writer.write(frames[5:])
    clip = load(tmp_path / name)
    assert clip.frames.shape == frames.shape
    assert psnr(clip.frames, frames) > least
    assert [float(t) for t in clip.timestamps] == pytest.approx([i / 8 for i in range(8)], abs=0.006)


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv"])
@pytest.mark.parametrize(("start", "end"), [(0, None), (7, 31)])
def test_exact_rates_outlive_matroskas_milliseconds(tmp_path, name, start, end):
    rate = Fraction(24000, 1001)
    source = write_clip(tmp_path / "in.mkv", moving(40), rate=rate)
    assert rewrite(source, tmp_path / name, start, end).average_rate == rate
    if name == "out.mp4":
        times = load(tmp_path / name).timestamps
        assert times == tuple(k / rate for k in range((end or 40) - start))


@pytest.mark.parametrize("rate", [Fraction(24000, 1001), Fraction(30000, 1001), 25, Fraction(25, 2), 1, 120])
def test_constant_rates_are_exact(tmp_path, rate):
    with VideoWriter(tmp_path / "a.mp4", 64, 48, rate=rate, settings=QUICK) as writer:
        writer.write(pixels_of(moving(12)))
    clip = load(tmp_path / "a.mp4")
    assert clip.timestamps == tuple(i / Fraction(rate) for i in range(12))
    assert clip.info.average_rate == rate
    assert clip.info.duration == clip.end_time == 12 / Fraction(rate)


@pytest.mark.parametrize("name", ["a.mp4", "a.mov"])
@pytest.mark.parametrize("denominator", [90000, 1000, 25])
def test_variable_rates_are_exact(tmp_path, name, denominator):
    times = [Fraction(t, denominator) for t in (0, 1, 4, 5, 6, 20, 21, 50, 51, 52)]
    end = Fraction(60, denominator)
    with VideoWriter(tmp_path / name, 64, 48, settings=QUICK) as writer:
        writer.write(pixels_of(moving(10)), times, end)
    clip = load(tmp_path / name)
    assert clip.timestamps == tuple(times)
    assert clip.end_time == end
    assert clip.info.duration == end


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm", ".gif"])
def test_the_same_clip_with_its_sound_is_the_same_bytes(tmp_path, clip_with_sound, suffix):
    one, other = (tmp_path / f"{name}{suffix}" for name in "ab")
    for path in (one, other):
        rewrite(clip_with_sound, path)
    assert one.read_bytes() == other.read_bytes()


def test_matroska_rounds_times_to_its_milliseconds(tmp_path):
    times = [Fraction(t, 90000) for t in (0, 3003, 6006, 30000)]
    with VideoWriter(tmp_path / "a.mkv", 64, 48, settings=QUICK) as writer:
        writer.write(pixels_of(moving(4)), times, Fraction(1, 2))
    clip = load(tmp_path / "a.mkv")
    assert [float(t) for t in clip.timestamps] == pytest.approx([float(t) for t in times], abs=0.0006)


@pytest.mark.parametrize("width", [1, 2, 3, 7, 16, 63])
@pytest.mark.parametrize("height", [1, 6, 47])
@pytest.mark.parametrize("name", ["a.mp4", "a.webm", "a.gif"])
def test_sizes_are_kept_exactly(tmp_path, name, width, height):
    frames = torch.full((3, height, width, 3), 130, dtype=torch.uint8)
    with VideoWriter(tmp_path / name, width, height, rate=10, settings=QUICK) as writer:
        writer.write(frames)
    clip = load(tmp_path / name)
    assert clip.frames.shape == frames.shape
    assert (clip.frames.int() - 130).abs().max() <= 3


def test_even_sizes_play_everywhere_and_name_their_colours(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", 64, 48, rate=10) as writer:
        writer.write(pixels_of(smooth(2)))
    with av.open(str(tmp_path / "a.mp4")) as container:
        frame = next(container.decode(video=0))
    assert frame.format.name == "yuv420p"
    assert (frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc) == (1, 1, 1, 1)


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv"])
def test_sound_is_copied_packet_by_packet(tmp_path, name):
    source = write_clip(tmp_path / "source.mp4", moving(25), audio="aac")
    info = rewrite(source, tmp_path / name)
    assert audio_packets(tmp_path / name) == audio_packets(source)
    assert info.audio_codec == "aac"


@pytest.mark.parametrize(
    ("source_name", "codec", "name", "wanted"),
    [
        ("s.mp4", "aac", "a.webm", "opus"),
        ("s.mkv", "pcm_s16le", "a.mp4", "aac"),
        ("s.mkv", "libopus", "a.webm", "opus"),
        ("s.mkv", "pcm_s16le", "a.mkv", "pcm_s16le"),
        ("s.avi", "pcm_s16le", "a.mov", "pcm_s16le"),
        ("s.mkv", "flac", "a.mov", "aac"),
    ],
)
def test_sound_is_encoded_anew_only_where_it_must(tmp_path, source_name, codec, name, wanted):
    video = "mpeg4" if source_name.endswith("avi") else "libx264"
    source = write_clip(tmp_path / source_name, moving(25), codec=video, audio=codec)
    info = rewrite(source, tmp_path / name)
    assert info.audio_codec == wanted
    begin, end = sound_span(tmp_path / name)
    assert begin == pytest.approx(0, abs=0.03)
    assert end == pytest.approx(1, abs=0.05)
    if probe(source).audio_codec == wanted:
        assert b"".join(audio_packets(tmp_path / name)) == b"".join(audio_packets(source))


def test_sound_of_a_range_is_copied(tmp_path):
    source = write_clip(tmp_path / "source.mp4", moving(50), audio="aac")
    info = rewrite(source, tmp_path / "a.mp4", 10, 35)
    assert info.duration is not None
    assert float(info.duration) == pytest.approx(1, abs=0.05)
    kept, packets = audio_packets(tmp_path / "a.mp4"), audio_packets(source)
    at = packets.index(kept[1])
    assert kept == packets[at - 1 : at - 1 + len(kept)]
    assert abs(at - 0.4 * 48000 / 1024) < 4


@pytest.mark.parametrize("offset", [Fraction(1, 2), Fraction(0)])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_offsets_between_sound_and_pictures_are_kept(tmp_path, name, offset):
    late_pictures = [round(offset * 1000) + 40 * i for i in range(25)]
    source = write_clip(
        tmp_path / "s.mkv", moving(25), times=late_pictures, time_base=Fraction(1, 1000), audio="libopus",
        audio_seconds=2.0,
    )  # fmt: skip
    before, after = probe(source), rewrite(source, tmp_path / name)
    assert before.audio_start is not None
    assert after.audio_start is not None
    assert float(after.start_time - after.audio_start) == pytest.approx(
        float(before.start_time - before.audio_start), abs=0.01
    )


def test_late_sound_stays_late(tmp_path):
    source = write_clip(
        tmp_path / "s.mp4", moving(25), audio="aac", audio_start=Fraction(3, 10), audio_seconds=0.5
    )
    after = rewrite(source, tmp_path / "a.mp4")
    assert after.start_time == 0
    assert after.audio_start is not None
    assert float(after.audio_start) == pytest.approx(0.3, abs=0.03)


def test_damaged_sound_does_not_cost_the_pictures(tmp_path, caplog):
    source = write_clip(tmp_path / "s.mp4", moving(10), audio="aac")
    info = probe(source)
    source.write_bytes(source.read_bytes()[:200])
    with VideoWriter(tmp_path / "a.mp4", 64, 48, rate=25, audio_from=info, settings=QUICK) as writer:
        writer.write(pixels_of(moving(10)))
    assert "No sound is carried over" in caplog.text
    assert len(load(tmp_path / "a.mp4").timestamps) == 10


def write_and_fail(target: Path, frames: torch.Tensor, failure: type[BaseException]) -> None:
    with VideoWriter(target, 64, 48, rate=8, settings=QUICK) as writer:
        writer.write(frames)
        raise failure


@pytest.mark.parametrize("name", ["a.mp4", "a.webm", "a.gif", "frames"])
@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("written", [0, 6])
def test_a_failure_leaves_the_earlier_result(tmp_path, name, failure, written):
    target = tmp_path / name
    with VideoWriter(target, 64, 48, rate=8, settings=QUICK) as writer:
        writer.write(pixels_of(smooth(3)))
    before = load(target).frames
    names = sorted(p.name for p in tmp_path.iterdir())
    frames = pixels_of(moving(written)) if written else torch.empty(0, 48, 64, 3, dtype=torch.uint8)
    with pytest.raises(failure):
        write_and_fail(target, frames, failure)
    assert torch.equal(load(target).frames, before)
    assert sorted(p.name for p in tmp_path.iterdir()) == names


def test_nothing_appears_before_the_end(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", 64, 48, rate=8, settings=QUICK) as writer:
        writer.write(pixels_of(moving(6)))
        assert not (tmp_path / "a.mp4").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]
    assert stat.S_IMODE((tmp_path / "a.mp4").stat().st_mode) & 0o444 == 0o444


def test_no_frames_is_an_error_and_no_file(tmp_path):
    with pytest.raises(OutputError, match="no frames"), VideoWriter(tmp_path / "a.mp4", 64, 48, rate=8):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_link_keeps_its_target(tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "link.mp4").symlink_to(tmp_path / "kept" / "real.mp4")
    with VideoWriter(tmp_path / "link.mp4", 64, 48, rate=8, settings=QUICK) as writer:
        writer.write(pixels_of(moving(3)))
    assert (tmp_path / "link.mp4").is_symlink()
    assert (tmp_path / "kept" / "real.mp4").is_file()


def test_the_source_itself_can_be_replaced(tmp_path):
    source = write_clip(tmp_path / "a.mp4", moving(10), audio="aac")
    packets = audio_packets(source)
    rewrite(source, source)
    assert audio_packets(source) == packets


def test_a_folder_with_other_files_is_not_replaced(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.png").write_bytes(b"dear")
    with pytest.raises(OutputError, match=r"holiday\.png"), VideoWriter(tmp_path / "photos", 64, 48, rate=8):
        pass
    assert (tmp_path / "photos" / "holiday.png").read_bytes() == b"dear"


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("a.wmv", (64, 48)),
        ("a.mp4", (0, 48)),
        ("a.mp4", (20000, 48)),
        ("no/a.mp4", (64, 48)),
        ("a\0.mp4", (64, 48)),
    ],
)
def test_what_cannot_be_written_is_refused_at_once(tmp_path, name, size):
    with pytest.raises(OutputError), VideoWriter(f"{tmp_path}/{name}", *size, rate=8):
        pytest.fail("was opened")
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_is_a_folder_or_a_file_of_the_other_kind(tmp_path):
    (tmp_path / "a.mp4").mkdir()
    (tmp_path / "frames").write_text("x")
    for name in ("a.mp4", "frames"):
        with pytest.raises(OutputError), VideoWriter(tmp_path / name, 64, 48, rate=8):
            pytest.fail("was opened")


def test_frames_must_match_their_writer(tmp_path):
    frames = pixels_of(moving(2))
    for size, times in (((32, 48), [Fraction(0), Fraction(1)]), ((64, 48), [Fraction(0)]), ((64, 48), None)):
        with pytest.raises(OutputError), VideoWriter(tmp_path / "a.mp4", *size) as writer:
            writer.write(frames, times)


def test_a_full_disk_is_reported_and_leaves_nothing(tmp_path):
    resource = pytest.importorskip("resource")
    signal = pytest.importorskip("signal")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    noise = torch.randint(0, 256, (8, 48, 64, 3), dtype=torch.uint8)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
        for name in ("a.mp4", "a.gif", "frames"):
            with (
                pytest.raises(OutputError),
                VideoWriter(tmp_path / name, 64, 48, rate=8, settings=QUICK) as writer,
            ):
                writer.write(noise)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []


def test_gif_times_never_collide(tmp_path):
    with VideoWriter(tmp_path / "a.gif", 64, 48, rate=120) as writer:
        writer.write(pixels_of(moving(6)))
    times = load(tmp_path / "a.gif").timestamps
    assert all(b - a >= Fraction(2, 100) for a, b in pairwise(times))


def test_an_edit_of_a_turned_clip_is_upright_without_a_matrix(tmp_path):
    source = write_clip(tmp_path / "s.mp4", smooth(3), rotation=(90, False, False))
    info = rewrite(source, tmp_path / "a.mp4")
    assert (info.width, info.height, info.rotation, info.mirrored) == (48, 64, 0, False)
    assert psnr(load(tmp_path / "a.mp4").frames, load(source).frames) > 35


def test_grids_are_pngs_in_order(tmp_path):
    with VideoWriter(tmp_path / "frames", 64, 48, rate=8) as writer:
        writer.write(pixels_of(moving(3)))
    assert sorted(p.name for p in (tmp_path / "frames").iterdir()) == [f"00000{i}.png" for i in range(3)]
    assert np.array_equal(np.asarray(Image.open(tmp_path / "frames" / "000000.png")), moving(1)[0])
    assert corners().shape == (48, 64, 3)


def test_settings_check_themselves():
    for wrong in ({"crf": 52}, {"preset": "quick"}, {"audio_bit_rate": 1}):
        with pytest.raises(SettingsError):
            WriteSettings(**wrong)
    assert math.isfinite(WriteSettings().crf)
