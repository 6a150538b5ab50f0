"""TokenFlow as this package does it, and as the published implementation does: all that differs stands here."""

from collections.abc import Sequence
from typing import ClassVar

from evenreel.hosts.tokenflow.keyframes import Flow, between, published_flows


class Corrected:
    """TokenFlow as this package does it."""

    source_takes: ClassVar[bool] = False
    """Whether the source branch, too, takes from keyframes; otherwise it is what it would be alone."""
    starts_at_inversion: ClassVar[bool] = True
    """Whether `pnp` begins at the inverted source, or at the source with the noise that the inversion found."""

    def last_timesteps(self, timesteps: Sequence[int], share: float) -> tuple[int, ...]:
        """Take the last `share` of descending timesteps, at least one."""
        return tuple(timesteps[-max(1, round(share * len(timesteps))) :])

    def together(self, keyframes: int, most: int) -> int:
        """Say how many of a step's keyframes are computed together."""
        del keyframes
        return most

    def others(self, frames: Sequence[int], keyframes: Sequence[int]) -> list[int]:
        """Leave out keyframes, which would take nothing but their own tokens, and so be predicted once more."""
        return [frame for frame in frames if frame not in keyframes]

    def flows(
        self, batch: Sequence[int], keyframes: Sequence[int], windows: Sequence[range]
    ) -> tuple[Flow, ...]:
        """Say what the frames of a batch take from keyframes: from those on both sides."""
        del windows
        return between(batch, keyframes)


class Published(Corrected):
    """TokenFlow as its published implementation does it."""

    source_takes: ClassVar[bool] = True
    starts_at_inversion: ClassVar[bool] = False

    def last_timesteps(self, timesteps: Sequence[int], share: float) -> tuple[int, ...]:
        """Take one timestep less than it says: `int(1 - start * steps)` is where its slice begins."""
        return tuple(timesteps[int(1 - share * len(timesteps)) :])

    def together(self, keyframes: int, most: int) -> int:
        """Return all of them, however much memory that takes."""
        del most
        return keyframes

    def others(self, frames: Sequence[int], keyframes: Sequence[int]) -> list[int]:
        """Return all frames: keyframes are predicted once more, beside those that take from them."""
        del keyframes
        return list(frames)

    def flows(
        self, batch: Sequence[int], keyframes: Sequence[int], windows: Sequence[range]
    ) -> tuple[Flow, ...]:
        """Take from the keyframes of the own window and of the one before, never from the one behind."""
        return published_flows(batch, keyframes, windows)
