"""The sampling loop: from noisy latents to clean ones."""

from collections.abc import Callable, Iterator, Sequence

import torch

from evenreel.diffusion import ddim
from evenreel.diffusion.schedule import NoiseSchedule
from evenreel.errors import WeightsError
from evenreel.scratch import pieces, piecewise
from evenreel.types import Latents

PredictNoise = Callable[[Latents, int, int], Latents]
"""(latents, step_index, timestep) -> noise_pred."""

AddedNoise = Callable[[int], Latents]
"""(timestep) -> what the step that leaves it adds to its mean."""

PutBack = Callable[[Latents, int | None], Latents]
"""(latents, timestep whose level they have, None where they are clean) -> what takes their place."""


@torch.inference_mode()
def sample(
    latents: Latents,
    predict_noise: PredictNoise,
    schedule: NoiseSchedule,
    timesteps: Sequence[int],
    *,
    added_noise: AddedNoise | None = None,
    eta: float = 1.0,
    put_back: PutBack | None = None,
    first: int = 0,
) -> Iterator[tuple[int, Latents]]:
    """Denoise `latents`, which have the noise level of the first of the descending `timesteps`.

    Steps are deterministic (DDIM); with `added_noise` they are those of DDPM (`eta` 1, DDIM's parameter), and it gives
    what each adds to its mean, with the standard deviation that belongs there. What a step reaches goes through
    `put_back`, which may put parts of a source in the place of what was made (Blended Diffusion, arXiv:2111.14818).
    `first` is the step to begin with, where a run was stopped; `latents` then have the level of its timestep.
    Yields, after each step, the timestep just left and the latents reached; the last ones are clean.
    Raises: WeightsError when the model returns NaN or infinity.
    """
    levels = [schedule.alpha(timestep) for timestep in timesteps] + [schedule.final_alpha_cumprod]
    for step_index, timestep in enumerate(timesteps[first:], first):
        noise_pred = predict_noise(latents, step_index, timestep)
        here, below = levels[step_index], levels[step_index + 1]
        if added_noise is None:
            latents = ddim.step(latents, noise_pred, here, below)
        else:
            latents = ddim.stochastic_mean(latents, noise_pred, here, below, eta=eta)
            latents = piecewise(torch.add, latents, added_noise(timestep))
        check_finite(latents, timestep)
        if put_back is not None:
            last = step_index + 1 == len(timesteps)
            latents = put_back(latents, None if last else timesteps[step_index + 1])
        latents = latents.contiguous()  # in one layout, as they are when they were kept and a run goes on
        yield timestep, latents


def check_finite(latents: Latents, timestep: int) -> None:
    """Stop a run at the step where it breaks, not with black frames at its end."""
    if not all(bool(torch.isfinite(latents[part]).all()) for part in pieces(latents)):
        raise WeightsError(
            f"the model returned NaN or infinity at timestep {timestep}; "
            "use float32 (or bfloat16), or fetch the weights again."
        )
