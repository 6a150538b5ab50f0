"""Fixed-point inversion: DDIM steps upwards that sampling takes back exactly (arXiv:2312.12540, arXiv:2403.14602)."""

from collections.abc import Iterator, Sequence

import torch

from evenreel.diffusion import ddim
from evenreel.diffusion.inversion import PredictNoise
from evenreel.diffusion.sampling import check_finite
from evenreel.diffusion.schedule import NoiseSchedule
from evenreel.errors import SettingsError
from evenreel.types import Latents


@torch.inference_mode()
def invert(
    latents: Latents,
    predict_noise: PredictNoise,
    schedule: NoiseSchedule,
    timesteps: Sequence[int],
    *,
    iterations: int = 2,
    tolerance: float = 1e-4,
) -> Iterator[tuple[int, Latents]]:
    """Add noise to clean `latents` deterministically, along the (descending) `timesteps` read backwards.

    A step down from x' to x takes the noise predicted at x'; plain inversion, which has no x' yet, takes that at x.
    Here x' = step(x, noise_pred(x')) is solved by at most `iterations` network calls: each predicts the noise at the
    newest x'. The first x' is made with the prediction of the step before, which differs little along a trajectory and
    costs nothing. A frame whose x' moved by no more than `tolerance` (root mean square) rests; when all do, the step
    ends. Timesteps must be those of the sampling that follows: only its own steps are taken back.

    Yields each timestep with the latents at its level. Raises: SettingsError for numbers out of range, WeightsError on
    NaN or infinity.
    """
    if iterations < 1:
        raise SettingsError(f"fixed-point iterations must be at least 1, got {iterations}.")
    if not tolerance >= 0:
        raise SettingsError(f"fixed-point tolerance must be at least 0, got {tolerance}.")
    alpha, noise_pred = schedule.final_alpha_cumprod, None
    for timestep in reversed(timesteps):
        alpha_to = schedule.alpha(timestep)
        noisy = latents if noise_pred is None else ddim.step(latents, noise_pred, alpha, alpha_to)
        noise_pred = torch.zeros_like(latents) if noise_pred is None else noise_pred
        moving = torch.ones(len(latents), 1, 1, 1, dtype=torch.bool, device=latents.device)
        for _ in range(iterations):
            # All frames are predicted, also those at rest: others may be what a host lets them see.
            found = predict_noise(noisy, timestep)
            nearer = ddim.step(latents, found, alpha, alpha_to)
            moved = (nearer - noisy).square().mean((1, 2, 3), keepdim=True).sqrt()
            noise_pred = torch.where(moving, found, noise_pred)
            noisy = torch.where(moving, nearer, noisy)
            moving = moving & ~(moved <= tolerance)
            if not bool(moving.any()):
                break
        check_finite(noisy, timestep)
        latents, alpha = noisy, alpha_to
        yield timestep, latents
