"""When an adapter is at work: a window of noise levels (GE-Adapter, arXiv:2501.04606, figures 11 and 14)."""

from dataclasses import dataclass

from evenreel.errors import SettingsError

_ROUNDING = 1e-6
"""Shares such as 0.55 of 1000 are a hair more than they say."""


@dataclass(frozen=True)
class Window:
    """Shares of the training timesteps, 0 the clean end and 1 the noisy one; both ends belong to it."""

    start: float
    end: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.end <= 1:
            raise SettingsError(
                f"a window must be START:END with 0 <= START <= END <= 1, got {self.start}:{self.end}."
            )

    def __contains__(self, share: float) -> bool:
        return self.start - _ROUNDING <= share <= self.end + _ROUNDING

    def holds(self, timestep: int, trained: int) -> bool:
        """Return whether a timestep of `trained` lies inside."""
        return timestep / trained in self

    def timesteps(self, trained: int) -> range:
        """Return all timesteps of `trained` that lie inside."""
        inside = [timestep for timestep in range(trained) if self.holds(timestep, trained)]
        return range(inside[0], inside[-1] + 1) if inside else range(0)

    @classmethod
    def parse(cls, text: str) -> "Window":
        """Read a window such as "0.9:1.0", shares from 0 (clean) to 1. Raises: SettingsError."""
        start, colon, end = text.partition(":")
        try:
            return cls(float(start), float(end) if colon else 1.0)
        except ValueError as error:
            if isinstance(error, SettingsError):
                raise
            raise SettingsError(f"a window must be START:END, for example 0.9:1.0, got {text!r}.") from error

    def __str__(self) -> str:
        return f"{self.start:g}:{self.end:g}"


TRAINING = Window(0.5)
"""Where the paper trains an adapter."""
INFERENCE = Window(0.9)
"""Where the paper uses one."""
