"""How errors of predicted noise are weighted: by noise level, min(SNR, cap) / SNR (min-SNR, arXiv:2303.09556)."""

from jaxtyping import Float
from torch import Tensor

SNR_CAP = 5.0
"""Signal-to-noise ratio from which on levels with less noise weigh less."""


def min_snr_weights(alpha: Float[Tensor, "samples"], cap: float = SNR_CAP) -> Float[Tensor, "samples"]:
    """Return the weights of errors at noise levels `alpha` (alphas_cumprod), from 0 to 1."""
    snr = alpha / (1 - alpha)
    return snr.clamp(max=cap) / snr


def weighted_loss(
    error: Float[Tensor, "samples"], alpha: Float[Tensor, "samples"], cap: float = SNR_CAP
) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
    """Return the mean weighted error of samples at noise levels `alpha` (alphas_cumprod), and detached figures.

    Figures: `mse` without weights; `mse_high` the same where the signal is weaker than the noise (SNR < 1), where
    place and shape are decided (0 when there is no such sample).
    """
    high, mse = (alpha / (1 - alpha) < 1).float(), error.detach()
    figures = {"mse": mse.mean(), "mse_high": (mse * high).sum() / high.sum().clamp(min=1)}
    return (min_snr_weights(alpha, cap) * error).mean(), figures
