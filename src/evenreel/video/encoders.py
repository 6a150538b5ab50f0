"""How each kind of output is encoded."""

from dataclasses import dataclass
from pathlib import Path

from evenreel.errors import OutputError, SettingsError, argument
from evenreel.files import shown

X264_PRESETS = (
    "ultrafast",
    "superfast",
    "veryfast",
    "faster",
    "fast",
    "medium",
    "slow",
    "slower",
    "veryslow",
)
SOUNDS = ("copy", "encode", "none")


@dataclass(frozen=True, kw_only=True)
class WriteSettings:
    """How results are encoded."""

    crf: int = 16
    """Constant quality of H.264, 0 (lossless) to 51; VP9 takes the value of like quality."""
    preset: str = "medium"
    """Time that x264 spends on making files smaller."""
    audio_bit_rate: int = 160_000
    """Bits a second of two channels, where sound is encoded again."""
    sound: str = "copy"
    """`copy`: as it is where the result can hold it so, else encoded again; `encode`; or `none`."""
    sound_track: int | None = None
    """Which sound track of the source, from 1; None: the one that players choose."""

    def __post_init__(self) -> None:
        if not 0 <= self.crf <= 51:
            raise SettingsError(f"crf must be from 0 to 51, got {self.crf}.")
        if self.preset not in X264_PRESETS:
            raise SettingsError(f"preset must be one of {', '.join(X264_PRESETS)}, got {self.preset!r}.")
        if not 6_000 <= self.audio_bit_rate <= 512_000:
            raise SettingsError(f"audio_bit_rate must be from 6000 to 512000, got {self.audio_bit_rate}.")
        if self.sound not in SOUNDS:
            raise SettingsError(f"sound must be one of {', '.join(SOUNDS)}, got {self.sound[:40]!r}.")
        if self.sound_track is not None and self.sound_track < 1:
            raise SettingsError(f"sound_track must be at least 1, got {self.sound_track}.")


MATROSKA = {"fflags": "+bitexact"}
"""Without it each file has random numbers of its own; an edit that is repeated must come out the same."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What goes into a container, and how."""

    codec: str
    pixel_format: str
    options: dict[str, str]
    container_options: dict[str, str]
    audio_copied: frozenset[str] | None
    """Sound codecs copied as they are; None for all that the container takes."""
    audio_encoder: str | None
    """Encoder for all other sound; None where the container holds no sound."""

    def notes(self, path: Path) -> tuple[str, ...]:
        """Return what people should know of a result, before it is made."""
        if self.pixel_format != "yuv444p":
            return ()
        odd = "a side is odd, so colours are stored in full (4:4:4), which QuickTime and phones do not show"
        return (
            f"{shown(path)}: {odd}; write .webm, or scale the source to even sides, to have it play there.",
        )


MP4_AUDIO = frozenset({"aac", "mp3", "ac3", "eac3", "alac", "opus", "flac"})
MOV_AUDIO = frozenset(
    {"aac", "mp3", "ac3", "eac3", "alac", "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_f32le"}
)
WEBM_AUDIO = frozenset({"opus", "vorbis"})
MAX_SIDE = 16384
"""Pixels to a side that H.264 and VP9 encode."""


def recipe(path: Path, width: int, height: int, settings: WriteSettings) -> Recipe | None:
    """Return the recipe for a file name, None for a folder of PNGs (no suffix); OutputError for an unknown suffix or
    size.

    H.264 with 4:2:0 chroma, which plays everywhere, only takes even sizes. Odd ones keep their exact size with 4:4:4
    chroma, which desktop players and Chromium show; scale to even sizes for phones.
    """
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise OutputError(
            f"{shown(path)} would be {width} x {height} pixels and sides from 1 to {MAX_SIDE} can be written; "
            f"choose another {argument('size')}."
        )
    suffix = path.suffix.lower()
    even = width % 2 == 0 and height % 2 == 0
    # x264's macroblock tree encodes equal pictures now in one way and now in another (seen at 112 x 112 and 96 x 64);
    # an edit that is repeated must come out the same.
    x264 = {"crf": str(settings.crf), "preset": settings.preset, "mbtree": "0"}
    if suffix in (".mp4", ".mov", ".mkv"):
        return Recipe(
            codec="libx264",
            pixel_format="yuv420p" if even else "yuv444p",
            options=x264,
            # the index goes first, so that browsers start playing at once
            container_options=MATROSKA if suffix == ".mkv" else {"movflags": "+faststart"},
            audio_copied={".mp4": MP4_AUDIO, ".mov": MOV_AUDIO, ".mkv": None}[suffix],
            audio_encoder="aac",
        )
    if suffix == ".webm":
        vp9 = {
            "crf": str(min(63, settings.crf + 8)),
            "b": "0",
            "deadline": "good",
            "cpu-used": "4",
            "row-mt": "1",
        }
        return Recipe(
            codec="libvpx-vp9",
            pixel_format="yuv420p",
            options=vp9,
            container_options=MATROSKA,
            audio_copied=WEBM_AUDIO,
            audio_encoder="libopus",
        )
    if suffix == ".gif":
        return Recipe(
            codec="gif",
            pixel_format="pal8",
            options={},
            container_options={},
            audio_copied=frozenset(),
            audio_encoder=None,
        )
    if not suffix:
        return None
    raise OutputError(
        f"{shown(path)} ends in {shown(suffix)}, which cannot be written; "
        "choose .mp4, .mov, .mkv, .webm, .gif, or no suffix for a folder of PNGs."
    )


def muxer(path: Path) -> str:
    """Return FFmpeg's name of the container that a file name stands for."""
    suffix = path.suffix.lower()
    return {".mkv": "matroska"}.get(suffix, suffix[1:])
