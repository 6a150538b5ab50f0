"""An inversion as another package would bring it, written against `evenreel.plugins` alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch

from evenreel.plugins import Inverted, Range, SourceClip, ddim, generator, settle


@dataclass(frozen=True, kw_only=True)
class ForwardInversion:
    """The forward process: the same noise is added to all frames, and the edit begins below the top (SDEdit)."""

    name: ClassVar[str] = "forward"
    refines: ClassVar[bool] = False

    strength: Annotated[float, Range(0, 1, above=True)] = 0.8
    """Share of the steps that the edit takes: the fewer, the closer to the source it stays."""

    def __post_init__(self) -> None:
        settle(self, f"{self.name}.")

    @contextmanager
    def inverted(self, source: SourceClip) -> Iterator[Inverted]:
        """Add noise at every level."""
        noise = torch.randn(source.latents.shape[1:], generator=generator(source.seed))
        noise = noise.to(source.latents)[None]
        timesteps = source.timesteps[-max(1, round(self.strength * len(source.timesteps))) :]
        with source.room(timesteps) as trajectory:
            for timestep in timesteps:
                alpha = source.backbone.schedule.alpha(timestep)
                trajectory.write(timestep, ddim.add_noise(source.latents, noise, alpha))
            yield Inverted(timesteps=timesteps, trajectory=trajectory)
