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
    iterations: int = 10,
    budget: int | None = None,
    tolerance: float = 2e-3,
    together: bool = False,
) -> Iterator[tuple[int, Latents]]:
    """Add noise to clean `latents` deterministically, along the (descending) `timesteps` read backwards.

    Sampling comes down from x' by the noise predicted at x'; plain inversion, which has no x' yet, goes up by that
    predicted at x. Here x' = step(x, noise_pred(x')) is solved by iteration. The first x' is made with noise
    extrapolated from the two steps before, which costs nothing and is nearly right: along a trajectory it changes
    little. A frame's iteration ends when its x' moves by no more than `tolerance` (root mean square), after
    `iterations` noise predictions, or when more would leave less than one for each step to come of the `budget` that it
    has for the run. `together` is for networks that let frames see each other: then all go on until none need to.

    `timesteps` must be those of the sampling that follows: only its own steps are taken back.
    Yields each timestep with the latents at its level. Raises: SettingsError for numbers out of range, WeightsError on
    NaN or infinity.
    """
    if iterations < 1:
        raise SettingsError(f"fixed-point iterations must be at least 1, got {iterations}.")
    if budget is not None and budget < len(timesteps):
        raise SettingsError(f"fixed-point budget must be at least {len(timesteps)}, got {budget}.")
    if not tolerance >= 0:
        raise SettingsError(f"fixed-point tolerance must be at least 0, got {tolerance}.")
    most = iterations * len(timesteps)
    spare = torch.full((len(latents),), min(budget or most, most) - len(timesteps), device=latents.device)
    alpha, found = schedule.final_alpha_cumprod, []
    for timestep in reversed(timesteps):
        alpha_to = schedule.alpha(timestep)
        noise_pred = _extrapolated(found)
        noisy = latents.clone() if noise_pred is None else ddim.step(latents, noise_pred, alpha, alpha_to)
        noise_pred = torch.zeros_like(latents) if noise_pred is None else noise_pred
        rows = torch.arange(len(latents), device=latents.device)
        for left in reversed(range(iterations)):
            noise_pred[rows] = predict_noise(noisy[rows], timestep)
            nearer = ddim.step(latents[rows], noise_pred[rows], alpha, alpha_to)
            moved = (nearer - noisy[rows]).square().mean((1, 2, 3)).sqrt()
            noisy[rows] = nearer
            going = (moved > tolerance) & (spare[rows] > 0)
            rows = rows if together and bool(going.any()) else rows[going]
            if not left or not len(rows):
                break
            spare[rows] -= 1
        check_finite(noisy, timestep)
        latents, alpha, found = noisy, alpha_to, [*found[-1:], noise_pred]
        yield timestep, latents


def _extrapolated(found: Sequence[Latents]) -> Latents | None:
    """A first guess at the noise of the next step, from the predictions of up to two before it."""
    match found:
        case [before, last]:
            return 2 * last - before
        case [last]:
            return last.clone()
    return None
