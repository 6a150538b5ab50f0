"""A clip held in memory."""

from dataclasses import dataclass
from fractions import Fraction

from evenreel.types import Pixels
from evenreel.video.info import VideoInfo


@dataclass(frozen=True, kw_only=True)
class Clip:
    """Frames `start` to `end` (half-open) of a file, in memory.

    `frames` are uint8 RGB, (frames, height, width, 3), upright and with square pixels; each has an exact time. A clip
    is not changed in place: `dataclasses.replace` makes another one.

    Examples:
        >>> clip = evenreel.load("in.mp4", 0, 4)
        >>> clip.frames.shape, clip.frames.dtype
        (torch.Size([4, 64, 96, 3]), torch.uint8)
        >>> [str(time) for time in clip.timestamps]
        ['0', '1/25', '2/25', '3/25']
    """

    frames: Pixels
    timestamps: tuple[Fraction, ...]
    """Exact seconds at which each frame is shown, on the source's clock."""
    end_time: Fraction
    """Exact seconds at which the last frame stops being shown."""
    info: VideoInfo
    start: int
    end: int
    is_tail: bool
    """Whether the last frame of the source is included: its audio then plays to its own end."""

    @property
    def audio_range(self) -> tuple[int, int | None]:
        """What `VideoWriter` wants as `audio_range` to give an edit of this clip its sound."""
        return self.start, None if self.is_tail else self.end
