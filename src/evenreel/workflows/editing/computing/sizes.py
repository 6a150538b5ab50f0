"""Sizes at which models work, and how much of a clip is in memory at once."""

from evenreel.backbones import Backbone
from evenreel.video import fit

LARGEST_ASPECT = 8
"""Pixels of a working frame may be at most this many times those of a square one: a banner must not take all memory."""
WINDOW_PIXELS = 2**23
"""Source pixels read at once (four frames of full HD), which cost about 30 bytes each while they are resized."""


def model_size(
    width: int, height: int, size: int | tuple[int, int] | None, backbone: Backbone
) -> tuple[int, int]:
    """Return (width, height) at which `backbone` works on frames of `width` x `height`."""
    multiple = backbone.size_multiple
    if isinstance(size, tuple):
        # fit() rounds one side at a time when it is given a picture that has the size already
        return fit(*size, None, multiple)
    shorter = size or backbone.native_size
    stretch = max(width, height) / min(width, height)
    if stretch > LARGEST_ASPECT:
        shorter = max(multiple, round(shorter * (LARGEST_ASPECT / stretch) ** 0.5))
        # Beyond what the model's multiple allows, the long side gives way; the way back stretches it again.
        longer = min(
            round(shorter * stretch), round((size or backbone.native_size) ** 2 * LARGEST_ASPECT / shorter)
        )
        width, height = (longer, shorter) if width > height else (shorter, longer)
        return fit(width, height, None, multiple)
    return fit(width, height, shorter, multiple)


def window_length(width: int, height: int, batch: int) -> int:
    """Return how many frames of a size are read, or written, at once."""
    return max(1, min(batch, WINDOW_PIXELS // (width * height)))
