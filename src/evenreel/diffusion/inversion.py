"""DDIM inversion: from clean latents to the noise from which sampling would make them again; what inversions find."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import signature

import torch

from evenreel.diffusion import ddim
from evenreel.diffusion.sampling import AddedNoise, check_finite
from evenreel.diffusion.schedule import NoiseSchedule
from evenreel.diffusion.trajectory import Trajectory
from evenreel.scratch import placed
from evenreel.types import Latents, PromptRows

PredictNoise = Callable[[Latents, int], Latents]
"""(latents, timestep) -> noise_pred."""

Prefilter = Callable[[Latents, int], Latents]
"""(latents, timestep) -> what takes their place before the step to that timestep."""

Invert = Callable[..., Iterator[tuple[int, Latents]]]
"""(latents, predict_noise, schedule, timesteps) -> each timestep, from the lowest, with the latents at its level.

One that takes `reached`, a timestep, goes on from latents of that level; others begin anew where a run was stopped."""


@dataclass(frozen=True, kw_only=True)
class Inverted:
    """A source clip as sampling could make it again: all that an edit takes from an inversion, whichever it was."""

    timesteps: tuple[int, ...]
    """Where sampling goes, descending; the first one is where an edit begins."""
    trajectory: Trajectory
    """The clip at the level of each of `timesteps`."""
    null_embeds: Mapping[int, PromptRows] = field(default_factory=dict[int, PromptRows])
    """By timestep, what guided sampling takes in the place of the negative prompt; empty where nothing does."""
    added_noise: Trajectory | None = None
    """What a step adds to its mean on leaving each of `timesteps`; None where steps are deterministic."""
    eta: float = 1.0
    """DDIM's parameter of the steps that add something: 1 has the mean of DDPM's, 0 that of a deterministic one."""
    relative: bool = False
    """Whether sampling must take predictions relative to the source's (`EditJob.relative`)."""

    def noise_on(self, device: torch.device) -> AddedNoise | None:
        """Return what `sampling.sample` takes as its `added_noise`."""
        recorded = self.added_noise
        return None if recorded is None else lambda timestep: placed(recorded.read(timestep), device)


@torch.inference_mode()
def invert(
    latents: Latents,
    predict_noise: PredictNoise,
    schedule: NoiseSchedule,
    timesteps: Sequence[int],
    *,
    prefilter: Prefilter | None = None,
    clean_filter: Prefilter | None = None,
    eta: float = 0.0,
    added_noise: AddedNoise | None = None,
    reached: int | None = None,
) -> Iterator[tuple[int, Latents]]:
    """Add noise to clean `latents`, along the (descending) `timesteps` read backwards.

    At each step the network is told the timestep it moves to, though the latents still have the level before it
    (arXiv:2105.05233, appendix F): exact in the limit of small steps. A `prefilter` comes first; the network sees what
    it gives, and the step starts there (arXiv:2501.04606, eq. 12). A `clean_filter` changes the clean latents that the
    prediction implies, and leaves the noise as it is. Steps are deterministic; with `eta` above 0 they add
    some of the noise of unit deviation that `added_noise` gives for each timestep. `latents` may have the level of a
    timestep below the others, `reached`, where such a run was stopped.
    Yields each timestep with the latents at its level. Raises: WeightsError on NaN or infinity.
    """
    alpha = schedule.final_alpha_cumprod if reached is None else schedule.alpha(reached)
    for timestep in reversed(timesteps):
        if prefilter is not None:
            latents = prefilter(latents, timestep)
        noise_pred = predict_noise(latents, timestep)
        if clean_filter is not None:
            clean = ddim.pred_original_sample(latents, noise_pred, alpha)
            # as a difference, so that a filter which changes nothing leaves every bit
            latents = latents + alpha**0.5 * (clean_filter(clean, timestep) - clean)
        alpha_to = schedule.alpha(timestep)
        if eta and added_noise is not None:
            latents = ddim.noising_step(latents, noise_pred, added_noise(timestep), alpha, alpha_to, eta=eta)
        else:
            latents = ddim.step(latents, noise_pred, alpha, alpha_to)
        alpha, latents = alpha_to, latents.contiguous()
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
    method: Invert = invert,
    done: int = 0,
) -> Iterator[int]:
    """Invert a clip `batch` frames at a time by a `method` and keep what `trajectory` has room for.

    Frames do not see each other here, so the order does not matter and memory stays bounded by the batch. Of a run that
    was stopped, `done` frames' steps are in `trajectory` already, and it goes on there.
    Yields the number of frames' steps done, which ends at frames * len(timesteps).
    """
    for start in range(0, len(latents), batch):
        window = latents[start : start + batch]
        before = start * len(timesteps)
        count = _kept_steps(trajectory, timesteps, (done - before) // len(window))
        if count == len(timesteps):
            continue
        left, further = timesteps[: len(timesteps) - count], {}
        if count and _takes_reached(method):
            further["reached"] = timesteps[-count]
            window = trajectory.read(timesteps[-count], range(start, start + len(window))).to(window)
        else:
            left, count = timesteps, 0
        for timestep, noisy in method(window, predict_noise, schedule, left, **further):
            if timestep in trajectory:
                trajectory.write(timestep, noisy, start=start)
            count += 1
            yield before + count * len(window)


def _kept_steps(trajectory: Trajectory, timesteps: Sequence[int], done: int) -> int:
    """Of the steps of a window that were done, up to the last one whose latents are kept, how many there are."""
    steps = min(max(done, 0), len(timesteps))
    return next((count for count in range(steps, 0, -1) if timesteps[-count] in trajectory), 0)


def _takes_reached(method: Invert) -> bool:
    return "reached" in signature(method).parameters
