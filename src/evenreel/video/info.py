"""What is known of a clip before its frames are read."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from evenreel.errors import SettingsError
from evenreel.video.orientation import UPRIGHT, Orientation
from evenreel.video.streams import Track


@dataclass(frozen=True, kw_only=True)
class ReadSettings:
    """How clips are read."""

    max_pixels: int = 8192 * 4320
    """Pixels a frame may have; a larger one is refused from its header, before it costs memory."""
    image_rate: Fraction = Fraction(8)
    """Frames a second given to a folder of images, and to a single one."""
    background: tuple[int, int, int] = (255, 255, 255)
    """RGB behind transparent pixels: white, as on a page."""
    max_clip_bytes: int = 16 * 2**30
    """Bytes of pixels that `load` may hold; streams are not limited."""

    def __post_init__(self) -> None:
        if self.max_pixels < 1:
            raise SettingsError(f"max_pixels must be at least 1, got {self.max_pixels}.")
        if not 0 < self.image_rate <= 1000:
            raise SettingsError(
                f"image_rate must be above 0 and at most 1000 frames a second, got {self.image_rate}."
            )
        if len(self.background) != 3 or not all(0 <= level <= 255 for level in self.background):
            raise SettingsError(f"background must be three levels from 0 to 255, got {self.background}.")


@dataclass(frozen=True, kw_only=True)
class Leave:
    """What may be wrong with a clip that is read all the same."""

    truncated: bool = False
    """It may end early."""
    damaged: bool = False
    """Frames may be damaged."""


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """What a file or folder says about itself, found without decoding more than one frame.

    Examples:
        >>> info = evenreel.probe("in.mp4")
        >>> info.width, info.height, info.average_rate
        (96, 64, Fraction(25, 1))
    """

    path: Path
    width: int
    """Pixels across as displayed: rotation, mirroring and pixel aspect applied."""
    height: int
    """Pixels down as displayed."""
    frame_count: int | None
    """Frames declared by the file; None where it declares none (streams of Matroska, WebM, GIF)."""
    average_rate: Fraction | None
    """Frames a second; None where the file gives none that makes sense."""
    duration: Fraction | None
    """Seconds that the pictures last, as declared."""
    start_time: Fraction = Fraction(0)
    """Seconds at which the first frame is shown."""
    skipped: Fraction = Fraction(0)
    """Seconds of pictures before the first frame that lean on others cut away: the recording starts in the middle."""
    time_base: Fraction | None = None
    """Seconds that one unit of the file's timestamps lasts."""
    container: str = ""
    """FFmpeg's name of the file format, or `images`."""
    codec: str = ""
    pixel_format: str = ""
    tracks: tuple[Track, ...] = ()
    """All streams of the file."""
    has_audio: bool = False
    audio_codec: str | None = None
    """Codec of the sound that players choose; None where it is not known here."""
    audio_start: Fraction | None = None
    """Seconds at which the first sound is heard."""
    orientation: Orientation = UPRIGHT
    pixel_aspect: Fraction = Fraction(1)
    """Width of a stored pixel over its height."""
    interlaced: bool = False
    """Whether the first frame is flagged as two fields; such frames are deinterlaced."""
    hdr: bool = False
    """Whether frames are tone-mapped (PQ or HLG)."""
    has_alpha: bool = False
    """Whether frames are composited on the background."""
    alpha_beside: bool = False
    """Whether transparency lies in a stream of its own, which is not read: what lies beneath is shown."""
    loop: int = 0
    """How often a GIF or an animated picture starts again after the first time; 0 for without end, -1 for never."""
    images: tuple[Path, ...] = ()
    """The image files in order, for a folder or a single image."""

    @property
    def rotation(self) -> int:
        """Clockwise degrees by which stored pictures are turned for display."""
        return self.orientation.rotation

    @property
    def mirrored(self) -> bool:
        return self.orientation.mirrored

    @property
    def is_images(self) -> bool:
        return bool(self.images)

    @property
    def estimated_frame_count(self) -> int | None:
        """Frames declared, or else duration times rate; for progress bars, never for allocation."""
        if self.frame_count is not None or self.duration is None or self.average_rate is None:
            return self.frame_count
        return max(1, round(self.duration * self.average_rate))
