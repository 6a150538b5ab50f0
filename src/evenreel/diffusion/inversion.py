"""DDIM inversion: from clean latents to the noise from which sampling would make them again."""

from collections.abc import Callable, Iterator, Sequence

import torch

from evenreel.diffusion import ddim
from evenreel.diffusion.sampling import check_finite
from evenreel.diffusion.schedule import NoiseSchedule
from evenreel.diffusion.trajectory import Trajectory
from evenreel.types import Latents

PredictNoise = Callable[[Latents, int], Latents]
"""(latents, timestep) -> noise_pred."""


@torch.inference_mode()
def invert(
    latents: Latents, predict_noise: PredictNoise, schedule: NoiseSchedule, timesteps: Sequence[int]
) -> Iterator[tuple[int, Latents]]:
    """Add noise to clean `latents` deterministically, along the (descending) `timesteps` read backwards.

    At each step the network is told the timestep it moves to, though the latents still have the level before it
    (arXiv:2105.05233, appendix F): exact in the limit of small steps.
    Yields each timestep with the latents at its level. Raises: WeightsError on NaN or infinity.
    """
    alpha = schedule.final_alpha_cumprod
    for timestep in reversed(timesteps):
        noise_pred = predict_noise(latents, timestep)
        alpha_to = schedule.alpha(timestep)
        latents, alpha = ddim.step(latents, noise_pred, alpha, alpha_to), alpha_to
        check_finite(latents, timestep)
        yield timestep, latents


def record(
    trajectory: Trajectory,
    latents: Latents,
    predict_noise: PredictNoise,
    schedule: NoiseSchedule,
    timesteps: Sequence[int],
    *,
    batch: int = 8,
) -> Iterator[int]:
    """Invert a clip `batch` frames at a time and keep what `trajectory` has room for.

    Frames do not see each other here, so the order does not matter and memory stays bounded by the batch.
    Yields the number of frames' steps done, which ends at frames * len(timesteps).
    """
    done = 0
    for start in range(0, len(latents), batch):
        window = latents[start : start + batch]
        for timestep, noisy in invert(window, predict_noise, schedule, timesteps):
            if timestep in trajectory:
                trajectory.write(timestep, noisy, start=start)
            done += len(window)
            yield done
