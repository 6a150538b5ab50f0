"""Text2Video-Zero as this package does it, and as the published code and its demo do: all that differs stands here."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from evenreel import random
from evenreel.diffusion import motion
from evenreel.diffusion.schedule import NoiseSchedule
from evenreel.hosts.base import EditJob
from evenreel.types import Latents

FirstFrame = Float[Tensor, "1 channels height width"]
Copies = Float[Tensor, "moved channels height width"]
"""Latents of the frames that are moved copies of the first one."""


class Motion:
    """How copies of the first frame are moved and thrown back (section 3.3.1)."""

    def wanted(self, schedule: NoiseSchedule, timesteps: tuple[int, int], shorter: int) -> tuple[int, int]:
        """Translate timesteps that are meant for latents of 64 cells to latents with a shorter side of `shorter`."""
        moved, free = (motion.same_layout(schedule, timestep, shorter) for timestep in timesteps)
        return moved, free

    def shift(self, offset: float, cells: int, shorter: int) -> float:
        """Convert a motion of `offset` pixels to cells; see `motion.shift_in_cells`."""
        del cells
        return motion.shift_in_cells(offset, shorter)

    def alpha_between(self, schedule: NoiseSchedule, lower: int, upper: int) -> float:
        """Return the share of variance that is left after throwing copies back from one timestep to another."""
        return motion.alpha_between(schedule, lower, upper)


class PublishedMotion(Motion):
    """As in the published code: off by a timestep, half a pixel and the aspect ratio, at one pair of timesteps."""

    def wanted(self, schedule: NoiseSchedule, timesteps: tuple[int, int], shorter: int) -> tuple[int, int]:
        """Take the same timesteps for every size."""
        del schedule, shorter
        return timesteps

    def shift(self, offset: float, cells: int, shorter: int) -> float:
        """Take every side for 512 pixels, and lose half a pixel."""
        del shorter
        return cells * (offset - 0.5) / motion.GRID

    def alpha_between(self, schedule: NoiseSchedule, lower: int, upper: int) -> float:
        """Multiply 1 - beta over `lower` to `upper` - 1, where the forward process goes from `lower` + 1 to `upper`."""
        before = [schedule.alphas_cumprod[timestep - 1] if timestep else 1.0 for timestep in (lower, upper)]
        return before[1] / before[0]


class Clip:
    """What becomes of the first frame, and of the noise, in a clip that is not edited."""

    first_moved = 1
    """The first frame of the clip that is a moved copy."""

    def thrown(self, job: EditJob, generator: torch.Generator) -> Copies:
        """Draw the noise that throws copies back; `generator` has drawn the first frame's."""
        frames, *shape = job.shape
        return torch.randn(frames - 1, *shape, generator=generator)

    def last(self, timesteps: Sequence[int], lower: int) -> int:
        """Say to which timestep the first frame is denoised before its copies are moved."""
        del timesteps
        return lower

    def joined(
        self, reached: dict[int, FirstFrame], upper: int, copies: Copies
    ) -> tuple[Latents, dict[int, FirstFrame]]:
        """Join the first frame and its copies; returns also, by timestep, what they look at where it is not a frame."""
        return torch.cat([reached[upper], copies]), {}


class DemoClip(Clip):
    """As the published demo: it shows a copy in the first frame's place, and draws the same noise for every batch."""

    first_moved = 0

    def thrown(self, job: EditJob, generator: torch.Generator) -> Copies:
        """Draw anew, from the seed, for every `job.batch` frames, one of which is the first frame."""
        del generator
        frames, *shape = job.shape
        chunks: list[Tensor] = []
        for chunk in torch.split(torch.arange(frames), max(1, job.batch - 1)):
            generator = random.generator(job.seed)
            torch.randn(1, *shape, generator=generator)  # the first frame's, once more
            channels, height, width = shape
            noise = torch.randn(channels, len(chunk), height, width, generator=generator)
            chunks.append(noise.transpose(0, 1))
        return torch.cat(chunks)

    def last(self, timesteps: Sequence[int], lower: int) -> int:
        """Denoise the first frame to its end."""
        del lower
        return timesteps[-1]

    def joined(
        self, reached: dict[int, FirstFrame], upper: int, copies: Copies
    ) -> tuple[Latents, dict[int, FirstFrame]]:
        """Show copies only; they look at the first frame, which is not among them."""
        del upper
        return copies, reached
