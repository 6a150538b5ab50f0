"""One DDIM step, in both directions, and the conversions between what networks predict."""

from jaxtyping import Float
from torch import Tensor

from evenreel.diffusion.schedule import PredictionType
from evenreel.scratch import in_pieces
from evenreel.types import Latents

Noise = Float[Tensor, "_ channels height width"]
"""Standard normal: one row that all frames share, or one for each."""
Level = float | Float[Tensor, "_ 1 1 1"]
"""Share of the variance that is signal: the same for all frames, or one for each."""


@in_pieces
def pred_original_sample(latents: Latents, noise_pred: Latents, alpha: float) -> Latents:
    """Return the clean latents that a noise prediction implies (DDIM, arXiv:2010.02502, eq. 9)."""
    return (latents - (1 - alpha) ** 0.5 * noise_pred) / alpha**0.5


@in_pieces
def add_noise(latents: Latents, noise: Noise, alpha: Level) -> Latents:
    """Replace all but a share `alpha` of the variance by noise (DDPM, arXiv:2006.11239, eq. 4).

    On clean latents, `alpha` is the alphas_cumprod of the level to reach; between two levels it is their ratio.
    """
    return alpha**0.5 * latents + (1 - alpha) ** 0.5 * noise


@in_pieces
def step(latents: Latents, noise_pred: Latents, alpha_from: float, alpha_to: float) -> Latents:
    """Move latents between noise levels, either way (DDIM, arXiv:2010.02502, eq. 12 with sigma = 0)."""
    return (
        alpha_to**0.5 * pred_original_sample(latents, noise_pred, alpha_from)
        + (1 - alpha_to) ** 0.5 * noise_pred
    )


@in_pieces
def stochastic_mean(
    latents: Latents, noise_pred: Latents, alpha_from: float, alpha_to: float, *, eta: float = 1.0
) -> Latents:
    """Return the mean of a step to `alpha_to` that adds noise (eq. 12, sigma as in eq. 16); at `eta` 0, `step`."""
    variance = eta**2 * (1 - alpha_to) / (1 - alpha_from) * (1 - alpha_from / alpha_to)
    # Rounding must not make a square root of less than nothing where the levels meet.
    direction = max(0.0, 1 - alpha_to - variance) ** 0.5
    return alpha_to**0.5 * pred_original_sample(latents, noise_pred, alpha_from) + direction * noise_pred


@in_pieces
def noising_step(
    latents: Latents, noise_pred: Latents, noise: Latents, alpha_from: float, alpha_to: float, *, eta: float
) -> Latents:
    """Step up to `alpha_to`, with a share of the noise from `noise` (GE-Adapter, arXiv:2501.04606, eq. 12).

    With `eta` 0 it is `step`; with 1 it is the forward process, and what was predicted cancels out.
    """
    variance = eta**2 * (1 - alpha_to / alpha_from)
    return (
        alpha_to**0.5 * pred_original_sample(latents, noise_pred, alpha_from)
        + max(0.0, 1 - alpha_to - variance) ** 0.5 * noise_pred
        + variance**0.5 * noise
    )


@in_pieces
def to_noise(
    model_output: Latents, latents: Latents, alpha: float, prediction_type: PredictionType
) -> Latents:
    """Return the noise that a network's output implies (v: progressive distillation, arXiv:2202.00512, appendix D)."""
    match prediction_type:
        case "epsilon":
            return model_output
        case "v_prediction":
            return alpha**0.5 * model_output + (1 - alpha) ** 0.5 * latents
        case "sample":
            return (latents - alpha**0.5 * model_output) / (1 - alpha) ** 0.5
