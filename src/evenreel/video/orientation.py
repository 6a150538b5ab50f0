"""Which way up a picture is stored: the display matrix of a video, and the sizes that follow from it."""

import struct
from dataclasses import dataclass

DISPLAY_MATRIX = struct.Struct("=9i")
"""Nine native integers, as FFmpeg hands them over: a b u, c d v, x y w (16.16 fixed point)."""


@dataclass(frozen=True, kw_only=True)
class Orientation:
    """One of the eight ways to show a picture: first transposed, then flipped."""

    transposed: bool = False
    """Rows and columns change places."""
    flipped_left_right: bool = False
    flipped_top_bottom: bool = False

    @classmethod
    def from_display_matrix(cls, matrix: bytes) -> "Orientation":
        """Read 36 bytes of side data; a skewed matrix counts as the nearest of the eight.

        The matrix moves a stored point (x, y) to (a x + c y, b x + d y), with y pointing down.
        """
        if len(matrix) != DISPLAY_MATRIX.size:
            return cls()
        a, b, _, c, d, *_ = DISPLAY_MATRIX.unpack(matrix)
        if abs(b) + abs(c) > abs(a) + abs(d):
            return cls(transposed=True, flipped_left_right=c < 0, flipped_top_bottom=b < 0)
        return cls(flipped_left_right=a < 0, flipped_top_bottom=d < 0)

    @property
    def mirrored(self) -> bool:
        """Whether pictures are stored as in a mirror: flip them left to right, then apply `rotation`."""
        return (self.transposed + self.flipped_left_right + self.flipped_top_bottom) % 2 == 1

    @property
    def rotation(self) -> int:
        """Clockwise degrees (0, 90, 180 or 270) that set the stored picture upright."""
        if self.transposed:
            return 90 if self.flipped_left_right else 270
        return 180 if self.flipped_top_bottom else 0

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Return width and height as shown of a picture stored with these."""
        return (height, width) if self.transposed else (width, height)


UPRIGHT = Orientation()
"""Stored as shown."""
