"""Fixed-point inversion: DDIM steps upwards that sampling takes back exactly (arXiv:2312.12540, arXiv:2403.14602)."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from evenreel.diffusion import ddim
from evenreel.diffusion.inversion import Inverted, PredictNoise
from evenreel.diffusion.sampling import check_finite
from evenreel.diffusion.schedule import NoiseSchedule
from evenreel.errors import SettingsError
from evenreel.inversions.base import SourceClip
from evenreel.scratch import piecewise
from evenreel.settings import Range, settle
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
    alpha = schedule.final_alpha_cumprod
    found: list[Latents] = []
    for timestep in reversed(timesteps):
        alpha_to = schedule.alpha(timestep)
        noise_pred = _extrapolated(found)
        noisy = latents if noise_pred is None else ddim.step(latents, noise_pred, alpha, alpha_to)
        rows = torch.arange(len(latents), device=latents.device)
        for left in reversed(range(iterations)):
            if len(rows) == len(latents):
                noise_pred = predict_noise(noisy, timestep)
                nearer = ddim.step(latents, noise_pred, alpha, alpha_to)
                moved, noisy = piecewise(_distance, nearer, noisy), nearer
            else:
                assert noise_pred is not None, "of all rows, by the first iteration"
                noise_pred[rows] = predict_noise(noisy[rows], timestep)
                nearer = ddim.step(latents[rows], noise_pred[rows], alpha, alpha_to)
                moved = _distance(nearer, noisy[rows])
                noisy[rows] = nearer
            going = (moved > tolerance) & (spare[rows] > 0)
            rows = rows if together and bool(going.any()) else rows[going]
            if not left or not len(rows):
                break
            spare[rows] -= 1
        assert noise_pred is not None, "there is at least one iteration"
        check_finite(noisy, timestep)
        latents, alpha, found = noisy, alpha_to, [*found[-1:], noise_pred]
        yield timestep, latents


def _extrapolated(found: Sequence[Latents]) -> Latents | None:
    """A first guess at the noise of the next step, from the predictions of up to two before it."""
    match found:
        case [before, last]:
            return piecewise(_onwards, last, before)
        case [last]:
            return last
        case _:
            return None


def _onwards(last: Latents, before: Latents) -> Latents:
    return 2 * last - before


def _distance(one: Latents, other: Latents) -> Tensor:
    return (one - other).square().mean((1, 2, 3)).sqrt()


@dataclass(frozen=True, kw_only=True)
class FixedPointInversion:
    """DDIM steps corrected until sampling takes them back (arXiv:2312.12540): nearly exact where guidance is 1."""

    name: ClassVar[str] = "fixed-point"
    refines: ClassVar[bool] = False
    is_random: ClassVar[bool] = False
    guided: ClassVar[bool] = False

    budget: Annotated[float, Range(1)] = 1.0
    """Noise predictions for each step on average, at most: hard steps, which come first, take what others leave."""
    iterations: Annotated[int, Range(1)] = 10
    """Noise predictions for one step, at most."""
    tolerance: Annotated[float, Range(0)] = 2e-3
    """A step ends when no frame's latents, which vary by about 1, still move by more than this (root mean square)."""

    def __post_init__(self) -> None:
        settle(self, f"{self.name}.")
        if self.budget == 1 and (self.iterations, self.tolerance) != (10, 2e-3):
            raise SettingsError(
                "fixed-point.iterations and fixed-point.tolerance have no effect at a budget of 1, which allows one "
                "noise prediction for each step; raise fixed-point.budget, or leave them out."
            )

    @contextmanager
    def inverted(self, source: SourceClip) -> Generator[Inverted]:
        """Invert at the sampling's own timesteps: only their steps are taken back."""
        method = partial(
            invert,
            iterations=self.iterations,
            budget=int(self.budget * len(source.timesteps)),
            tolerance=self.tolerance,
            together=source.together,
        )
        with source.recorded(method) as trajectory:
            yield Inverted(timesteps=source.timesteps, trajectory=trajectory)
