"""How much signal is left at each training timestep, and which timesteps a run visits."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal, get_args

import torch

from evenreel.errors import SettingsError, WeightsError

PredictionType = Literal["epsilon", "v_prediction", "sample"]
"""What a network returns: the noise, the velocity, or the clean latents."""
Spacing = Literal["leading", "trailing", "linspace"]
"""Which timesteps a run visits, as in diffusers (arXiv:2305.08891, table 2)."""
LEAST_SIGNAL = 2.0**-24
"""Share of signal variance at the last timestep of a schedule that has none there (zero terminal SNR): as little as
diffusers' `EulerDiscreteScheduler` leaves, since noise alone does not say which picture it hides."""


@dataclass(frozen=True, kw_only=True)
class NoiseSchedule:
    """The noise levels a model was trained on."""

    alphas_cumprod: tuple[float, ...] = field(repr=False)
    """Share of signal variance left at each training timestep, in (0, 1), decreasing."""
    final_alpha_cumprod: float
    """Share of signal variance of clean latents, where sampling ends and inversion starts."""
    prediction_type: PredictionType = "epsilon"
    """What the network returns."""
    steps_offset: int = 0
    """Added to every timestep that a run with leading spacing visits; 1 for Stable Diffusion."""
    spacing: Spacing = "leading"
    """How a run's timesteps are spread: up to a whole step below the noisiest, from the noisiest down, or from the
    noisiest to the cleanest."""

    def __post_init__(self) -> None:
        if not all(0.0 < alpha <= 1.0 for alpha in (*self.alphas_cumprod, self.final_alpha_cumprod)):
            raise WeightsError(
                "the scheduler's alphas_cumprod must lie in (0, 1]; this schedule is not supported."
            )

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "NoiseSchedule":
        """Build from a diffusers scheduler config, with the defaults of its `DDIMScheduler`.

        Raises: WeightsError when the config describes a schedule that is not supported.
        """
        prediction_type = config.get("prediction_type", "epsilon")
        if prediction_type not in (known := get_args(PredictionType)):
            raise WeightsError(
                f"the scheduler's prediction_type must be one of {', '.join(known)}, got {prediction_type!r}."
            )
        spacing = config.get("timestep_spacing", "leading")
        if spacing not in (known := get_args(Spacing)):
            raise WeightsError(
                f"the scheduler's timestep_spacing must be one of {', '.join(known)}, got {spacing!r}."
            )
        alphas_cumprod = _alphas_cumprod(config)
        return cls(
            alphas_cumprod=alphas_cumprod,
            final_alpha_cumprod=1.0 if config.get("set_alpha_to_one", True) else alphas_cumprod[0],
            prediction_type=prediction_type,
            steps_offset=config.get("steps_offset", 0),
            spacing=spacing,
        )

    def timesteps(self, steps: int) -> tuple[int, ...]:
        """Return the `steps` training timesteps of a sampling run, descending from near noise, whatever their number.

        They are those of diffusers' schedulers, but for a single step, which begins at the noisiest timestep where
        diffusers would begin at the cleanest, and for counts at which its leading spacing rounds much of the noisy end
        away (see `_leading`). Raises: SettingsError when `steps` does not fit the schedule.
        """
        trained = len(self.alphas_cumprod)
        if not 1 <= steps <= trained:
            raise SettingsError(f"steps must be from 1 to {trained}, got {steps}.")
        if steps == 1:
            return (trained - 1,)
        if self.spacing == "trailing":
            return tuple(round(trained - step * trained / steps) - 1 for step in range(steps))
        if self.spacing == "linspace":
            return tuple(round(step * (trained - 1) / (steps - 1)) for step in reversed(range(steps)))
        return _leading(trained, steps, self.steps_offset)

    def alpha(self, timestep: int) -> float:
        """Return the share of signal variance at a training timestep; a negative one means clean latents."""
        return self.final_alpha_cumprod if timestep < 0 else self.alphas_cumprod[timestep]


def _leading(trained: int, steps: int, offset: int) -> tuple[int, ...]:
    """`steps` of `trained` timesteps from one step below the noisiest to the cleanest, descending.

    diffusers rounds the step down to a whole number, which cuts off the noisy end: 334 steps of 1000 would begin at
    667, and hardly change a clip. Where that loses more than a step, and the run would begin below nine tenths of the
    schedule, the step stays a fraction.
    """
    step = trained // steps
    lost = trained - steps * step
    if lost >= step and 10 * (lost + step) > trained:
        visited = [index * trained // steps for index in range(steps)]
    else:
        visited = [index * step for index in range(steps)]
    # With as many steps as were trained, the offset would point behind the last of them.
    offset = min(offset, trained - 1 - visited[-1])
    return tuple(timestep + offset for timestep in reversed(visited))


def refine(timesteps: Sequence[int], factor: int) -> tuple[int, ...]:
    """Put `factor` - 1 timesteps before each of the descending `timesteps`, evenly, for an inversion in smaller steps.

    Every one of `timesteps` is kept, so that sampling finds its latents; below the last one there is nothing to split.
    """
    if factor < 1:
        raise SettingsError(
            f"the inversion must take a whole multiple of the steps, got a factor of {factor}."
        )
    fine: set[int] = {timesteps[-1]}
    for upper, lower in pairwise(timesteps):
        fine.update(upper - (upper - lower) * part // factor for part in range(factor))
    return tuple(sorted(fine, reverse=True))


def _alphas_cumprod(config: Mapping[str, Any]) -> tuple[float, ...]:
    # Computed in float32 as diffusers does, so that every model sees exactly the levels it was trained on.
    alphas_cumprod = torch.cumprod(1.0 - _betas(config), dim=0)
    if config.get("rescale_betas_zero_snr"):
        alphas_cumprod = _without_signal_at_the_end(alphas_cumprod)
    return tuple(float(alpha) for alpha in alphas_cumprod.unbind())


def _without_signal_at_the_end(alphas_cumprod: torch.Tensor) -> torch.Tensor:
    """The same levels, but the last has no signal and the first is as it was (arXiv:2305.08891, algorithm 1)."""
    signal = alphas_cumprod.sqrt()
    signal = (signal - signal[-1]) * (signal[0] / (signal[0] - signal[-1]))
    return (signal**2).clamp_min(LEAST_SIGNAL)


def _betas(config: Mapping[str, Any]) -> torch.Tensor:
    if config.get("trained_betas") is not None:
        return torch.tensor(config["trained_betas"], dtype=torch.float32)
    start, end = config.get("beta_start", 0.0001), config.get("beta_end", 0.02)
    count = config.get("num_train_timesteps", 1000)
    match config.get("beta_schedule", "linear"):
        case "linear":
            return torch.linspace(start, end, count, dtype=torch.float32)
        case "scaled_linear":
            return torch.linspace(start**0.5, end**0.5, count, dtype=torch.float32) ** 2
        case "squaredcos_cap_v2":
            return _cosine_betas(count)
        case other:
            raise WeightsError(f"the scheduler's beta_schedule {other!r} is not supported.")


def _cosine_betas(count: int) -> torch.Tensor:
    """The cosine schedule (Nichol & Dhariwal, arXiv:2102.09672, eq. 17)."""

    def signal(share: float) -> float:
        return math.cos((share + 0.008) / 1.008 * math.pi / 2) ** 2

    betas = [min(1 - signal((i + 1) / count) / signal(i / count), 0.999) for i in range(count)]
    return torch.tensor(betas, dtype=torch.float32)
