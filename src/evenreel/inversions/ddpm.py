"""Edit-friendly DDPM inversion (arXiv:2304.06140): the noise that stochastic sampling must add to return to a clip."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar

import torch

from evenreel import random
from evenreel.diffusion import ddim
from evenreel.diffusion.ddim import Noise
from evenreel.diffusion.inversion import Inverted, PredictNoise
from evenreel.diffusion.sampling import check_finite
from evenreel.diffusion.schedule import NoiseSchedule
from evenreel.diffusion.trajectory import Trajectory
from evenreel.inversions.base import SourceClip
from evenreel.scratch import joined, piecewise
from evenreel.settings import Range, settle
from evenreel.settings.option_groups import LARGEST_GUIDANCE
from evenreel.types import Latents

Draw = Callable[[int], Noise]
"""(timestep) -> the noise of the clip at its level."""


@torch.inference_mode()
def invert(
    latents: Latents,
    predict_noise: PredictNoise,
    schedule: NoiseSchedule,
    timesteps: Sequence[int],
    draw: Draw,
    *,
    eta: float = 1.0,
    noisy: Latents | None = None,
) -> Iterator[tuple[int, Latents, Latents]]:
    """Add noise to clean `latents` anew at each of the descending `timesteps`, and find what leads from one to the
    next.

    The clip at each level is drawn independently of the other levels (eq. 6), which puts more of it into the noise maps
    than a diffusion path would. A noise map is what is missing from the mean of a stochastic step to the clip at the
    level below (eq. 5). Here it keeps its standard deviation sigma_t: where sigma_t is 0, at a last step that ends
    without noise, what the prediction lacks is recorded too. So sampling with the same predictions comes back exactly;
    they are the same with the host `frame` without injection alone.
    With another `eta` (DDIM's) the mean is that of such a step: 0 is a deterministic one's. `noisy` is the clip at the
    first of the timesteps, where a run that was stopped had got to.

    Yields each timestep, the latents at its level, and what the step from there adds. Raises: WeightsError on NaN or
    infinity.
    """
    levels = [schedule.alpha(timestep) for timestep in timesteps] + [schedule.final_alpha_cumprod]
    noisy = ddim.add_noise(latents, draw(timesteps[0]), levels[0]) if noisy is None else noisy
    for index, timestep in enumerate(timesteps):
        mean = ddim.stochastic_mean(
            noisy, predict_noise(noisy, timestep), levels[index], levels[index + 1], eta=eta
        )
        last = index + 1 == len(timesteps)
        below = latents if last else ddim.add_noise(latents, draw(timesteps[index + 1]), levels[index + 1])
        added = piecewise(torch.sub, below, mean)
        check_finite(added, timestep)
        yield timestep, noisy, added
        # What sampling will compute, so that rounding does not add up over the steps.
        noisy = piecewise(torch.add, mean, added).contiguous()


def record(
    trajectory: Trajectory,
    added_noise: Trajectory,
    latents: Latents,
    predict_noise: PredictNoise,
    schedule: NoiseSchedule,
    *,
    seed: int,
    shared_noise: bool = True,
    antithetic: bool = False,
    held: int = 1,
    batch: int = 8,
    eta: float = 1.0,
    done: int = 0,
) -> Iterator[int]:
    """Invert a clip `batch` frames at a time, at the timesteps of `trajectory` and `added_noise`.

    With `shared_noise` all frames get the same noise, so that equal places of a clip stay equal. With `antithetic`
    every second level has the opposite of the noise of the level above it; otherwise levels are independent. `held`
    levels in a row count as one of these: they get the same noise. Of a run that was stopped, `done` frames' steps are
    in `trajectory` and `added_noise` already; it goes on there, with the last of them once more.
    Yields the number of frames' steps done, which ends at frames * len(trajectory).
    """
    timesteps = trajectory.timesteps
    for start in range(0, len(latents), batch):
        window = latents[start : start + batch]
        before = start * len(timesteps)
        steps = (done - before) // len(window)
        if steps >= len(timesteps):
            continue
        count = max(0, steps - 1)
        frames = range(1) if shared_noise else range(start, start + len(window))

        def draw(timestep: int, frames: range = frames) -> Noise:
            group = timesteps.index(timestep) // held
            opposite = antithetic and group % 2 == 1
            drawn_at, sign = timesteps[(group - opposite) * held], -1 if opposite else 1
            rows = (
                torch.randn((1, *latents.shape[1:]), generator=random.generator(seed, drawn_at, frame))
                for frame in frames
            )
            return joined((sign * row.to(latents) for row in rows), len(frames))

        rows = range(start, start + len(window))
        reached = trajectory.read(timesteps[count], rows).to(window) if count else None
        for timestep, noisy, added in invert(
            window, predict_noise, schedule, timesteps[count:], draw, eta=eta, noisy=reached
        ):
            trajectory.write(timestep, noisy, start=start)
            added_noise.write(timestep, added, start=start)
            count += 1
            yield before + count * len(window)


@dataclass(frozen=True, kw_only=True)
class DdpmInversion:
    """Edit-friendly DDPM inversion (arXiv:2304.06140): noise is added in sampling that leads back to the clip."""

    name: ClassVar[str] = "ddpm"
    refines: ClassVar[bool] = False
    is_random: ClassVar[bool] = True

    skip: Annotated[float, Range(0, 1, below=True)] = 0.36
    """Share of the steps, the noisiest ones, that the edit leaves out: the more, the closer to the source it stays."""
    guidance_scale: Annotated[float, Range(0, LARGEST_GUIDANCE)] = 3.5
    """How strongly the source prompt pulls while the noise is found."""
    shared_noise: bool = True
    """Whether all frames get the same noise; with noise of their own, what stands still flickers."""

    def __post_init__(self) -> None:
        settle(self, f"{self.name}.")

    @property
    def guided(self) -> bool:
        """Whether the negative prompt has a part in it."""
        return self.guidance_scale != 1

    @contextmanager
    def inverted(self, source: SourceClip) -> Generator[Inverted]:
        """Invert at the timesteps that are left; `source.seed` decides the noise."""
        timesteps = source.timesteps[int(self.skip * len(source.timesteps)) :]
        with source.room(timesteps) as trajectory, source.room(timesteps, "added_noise") as added_noise:
            run = record(
                trajectory,
                added_noise,
                source.latents,
                partial(source.predict_guided, guidance_scale=self.guidance_scale),
                source.backbone.schedule,
                seed=source.seed,
                shared_noise=self.shared_noise,
                batch=source.batch,
                done=source.done,
            )
            source.follow(run, len(source.latents) * len(timesteps))
            yield Inverted(timesteps=timesteps, trajectory=trajectory, added_noise=added_noise)
