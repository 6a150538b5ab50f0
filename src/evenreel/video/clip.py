"""A clip held in memory."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from numbers import Rational
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from evenreel.errors import SettingsError
from evenreel.types import Pixels
from evenreel.video.info import VideoInfo
from evenreel.video.strip import sheet


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

    @classmethod
    def from_frames(cls, frames: Tensor | Sequence[Any] | np.ndarray, fps: Rational | float) -> "Clip":
        """Make a clip, without sound, of pictures that come from elsewhere.

        Examples:
            >>> clip = evenreel.Clip.from_frames(np.zeros((3, 64, 96, 3), np.uint8), fps=24)
            >>> [str(time) for time in clip.timestamps]
            ['0', '1/24', '1/12']

        `frames` are RGB of uint8, (frames, height, width, 3): a tensor, an array, or a list of arrays or PIL images of
        one size. Each is shown for `1 / fps` seconds. Raises: SettingsError for what is none of these.
        """
        pixels, rate = _pixels(frames), _rate(fps)
        count = len(pixels)
        info = VideoInfo(
            path=Path(),
            width=pixels.shape[2],
            height=pixels.shape[1],
            frame_count=count,
            average_rate=rate,
            duration=count / rate,
        )
        return Clip(
            frames=pixels,
            timestamps=tuple(frame / rate for frame in range(count)),
            end_time=count / rate,
            info=info,
            start=0,
            end=count,
            is_tail=True,
        )

    def _repr_png_(self) -> bytes:
        """Return the film strip that notebooks show in place of numbers."""
        count, height, width = self.frames.shape[:3]
        seconds = float(self.end_time - self.timestamps[0])
        picture = io.BytesIO()
        label = f"{count} frames, {width} x {height}, {seconds:.2f} s"
        sheet([self.frames], [label]).save(picture, format="PNG")
        return picture.getvalue()

    @property
    def audio_range(self) -> tuple[int, int | None]:
        """What `VideoWriter` wants as `audio_range` to give an edit of this clip its sound."""
        return self.start, None if self.is_tail else self.end


def _pixels(frames: Any) -> Pixels:
    try:
        found = frames.detach() if isinstance(frames, Tensor) else torch.as_tensor(_array(frames))
    except (TypeError, ValueError) as error:
        raise SettingsError(f"frames cannot be read as pictures of one size ({error}).") from error
    if found.dtype != torch.uint8 or found.ndim != 4 or found.shape[-1] != 3 or not found.numel():
        raise SettingsError(
            f"frames must be uint8 from 0 to 255, of shape (frames, height, width, 3), got "
            f"{str(found.dtype).removeprefix('torch.')} of shape {tuple(found.shape)}; convert them first."
        )
    return found.cpu().contiguous().clone()


def _array(frames: Any) -> np.ndarray:
    return np.stack([np.asarray(one) for one in frames])


def _rate(fps: Any) -> Fraction:
    try:
        rate = Fraction(str(fps))
    except ValueError:
        rate = Fraction(0)
    if rate <= 0:
        raise SettingsError(f"fps must be frames a second, more than 0, got {fps!r}.")
    return rate
