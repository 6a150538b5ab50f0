"""Null-text inversion (arXiv:2211.09794): empty prompts with which guided sampling follows an inverted clip."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor

from evenreel.diffusion import ddim, guidance, inversion
from evenreel.diffusion.inversion import Inverted
from evenreel.diffusion.sampling import check_finite
from evenreel.diffusion.schedule import NoiseSchedule
from evenreel.diffusion.trajectory import Trajectory
from evenreel.errors import SettingsError
from evenreel.inversions.base import SourceClip
from evenreel.progress import tracked
from evenreel.scratch import joined, placed
from evenreel.settings import Range, settle
from evenreel.types import Latents, PromptRows

PredictNoise = Callable[[Latents, int, PromptRows], Latents]
"""(latents, timestep, prompt_embeds) -> noise_pred, through which gradients reach `prompt_embeds`."""

PUBLISHED_STEPS = 50
"""Steps of the run that the published decay and tolerance were chosen for."""


@dataclass(frozen=True)
class NullText:
    """What was found for one step of a run."""

    timestep: int
    """The timestep at which it takes the place of the negative prompt."""
    embeds: PromptRows
    """One row, shared by all frames."""
    losses: tuple[float, ...]
    """Mean squared distances to the inverted clip, in order; the one after the last update is not among them."""
    latents: Latents
    """Of the whole clip after this step: where guided sampling of the source has got to."""


def optimise(
    inverted: Trajectory,
    clean: Latents,
    predict_noise: PredictNoise,
    schedule: NoiseSchedule,
    timesteps: Sequence[int],
    *,
    prompt_embeds: PromptRows,
    null_embeds: PromptRows,
    guidance_scale: float,
    inner_steps: int = 10,
    learning_rate: float = 0.01,
    published: bool = False,
    batch: int = 8,
) -> Iterator[NullText]:
    """Find, step by step, the embedding that keeps guided sampling on the inverted clip (algorithm 1).

    `inverted` holds the clip at each of the descending `timesteps`, `clean` below the last of them. `prompt_embeds`
    (the source's prompt) has one row, or one for each frame; `null_embeds` (the empty prompt) has one. Each step starts
    from the embedding of the step before it and takes at most `inner_steps` updates by Adam, none once the loss has
    fallen below 1e-5 + 2e-5 i; the learning rate is `learning_rate` (1 - i / 100). Here i counts the steps, stretched
    to a run of 50, for which these numbers were chosen.

    `published` does as the implementations do: i is the plain index in runs of any length, and a last update follows
    after the loss is low enough, which has the size of the learning rate and hardly a direction. Null-text inversion
    made 10 updates, vid2vid-zero one.

    Memory for gradients is bounded by `batch`: those of all frames are added up, `batch` frames at a time.
    Yields one `NullText` for each of `timesteps`; `{found.timestep: found.embeds for found in optimise(...)}` is what
    an edit takes as its null texts. Must not run under `torch.inference_mode`, which has no gradients.
    Raises: SettingsError for numbers out of range, WeightsError when the model returns NaN or infinity.
    """
    for name, value in (("inner_steps", inner_steps), ("batch", batch)):
        if value < 1:
            raise SettingsError(f"null-text {name} must be at least 1, got {value}.")
    if not 0 < learning_rate < float("inf"):
        raise SettingsError(f"null-text learning_rate must be above 0, got {learning_rate}.")
    pace = 1.0 if published else PUBLISHED_STEPS / len(timesteps)
    latents, embeds = placed(inverted.read(timesteps[0]), clean.device), null_embeds.detach().clone()
    for index, timestep in enumerate(timesteps):
        below = timesteps[index + 1] if index + 1 < len(timesteps) else None
        step = _Step(
            predict_noise,
            timestep,
            latents,
            target=clean if below is None else inverted.read(below).to(clean),
            alphas=(
                schedule.alpha(timestep),
                schedule.final_alpha_cumprod if below is None else schedule.alpha(below),
            ),
            prompt_embeds=prompt_embeds,
            guidance_scale=guidance_scale,
            batch=batch,
        )
        embeds, losses = step.optimise(
            embeds,
            inner_steps,
            # In long runs the published decay would reach zero, and then turn the gradient round.
            learning_rate=learning_rate * max(0.0, 1 - pace * index / 100),
            tolerance=1e-5 + 2e-5 * pace * index,
            late=published,
        )
        latents = step.advanced(embeds)
        check_finite(latents, timestep)
        yield NullText(timestep, embeds, losses, latents)


class _Step:
    """One step down from `latents` at `timestep`, which shall reach `target`."""

    def __init__(
        self,
        predict_noise: PredictNoise,
        timestep: int,
        latents: Latents,
        *,
        target: Latents,
        alphas: tuple[float, float],
        prompt_embeds: PromptRows,
        guidance_scale: float,
        batch: int,
    ) -> None:
        self.predict_noise, self.timestep, self.latents, self.target = (
            predict_noise,
            timestep,
            latents,
            target,
        )
        self.alphas, self.guidance_scale = alphas, guidance_scale
        self.windows = [slice(start, start + batch) for start in range(0, len(latents), batch)]
        with torch.no_grad():
            predicted = (
                predict_noise(
                    latents[window],
                    timestep,
                    prompt_embeds if len(prompt_embeds) == 1 else prompt_embeds[window],
                )
                for window in self.windows
            )
            self.cond = joined(predicted, len(latents))

    def optimise(
        self, embeds: PromptRows, inner_steps: int, *, learning_rate: float, tolerance: float, late: bool
    ) -> tuple[PromptRows, tuple[float, ...]]:
        """Updated embeddings, and the losses; when one is below `tolerance`, updates end, or end `late` by one."""
        # A leaf of its own, also when the caller's tensor was made under inference mode.
        embeds = embeds.clone().requires_grad_(True)
        adam: Any = torch.optim.Adam([embeds], lr=learning_rate)  # whose `step` has no full annotation
        losses: list[float] = []
        for _ in range(inner_steps):
            loss, embeds.grad = self._loss_and_gradient(embeds)
            losses.append(loss)
            if loss >= tolerance or late:
                adam.step()
            if loss < tolerance:
                break
        return embeds.detach(), tuple(losses)

    @torch.no_grad()
    def advanced(self, embeds: PromptRows) -> Latents:
        """Return the latents one step down, guided away from `embeds`."""
        return joined((self._below(embeds, window) for window in self.windows), len(self.latents))

    def _loss_and_gradient(self, embeds: PromptRows) -> tuple[float, Tensor]:
        loss, gradient, count = 0.0, torch.zeros_like(embeds), self.latents.numel()
        for window in self.windows:
            with torch.enable_grad():
                # Summed, and divided only afterwards: gradients of a mean would vanish in half precision.
                squares = (self._below(embeds, window) - self.target[window]).square().sum()
            gradient += torch.autograd.grad(squares, embeds)[0]
            loss += squares.item()
        return loss / count, gradient / count

    def _below(self, embeds: PromptRows, window: slice) -> Latents:
        uncond = self.predict_noise(self.latents[window], self.timestep, embeds)
        noise_pred = guidance.combine(uncond, self.cond[window], self.guidance_scale)
        return ddim.step(self.latents[window], noise_pred, *self.alphas)


@dataclass(frozen=True, kw_only=True)
class NullTextInversion:
    """DDIM inversion, and negative prompts by which guided sampling follows it (arXiv:2211.09794): slow.

    Without guidance there is nothing to find, and this is `ddim`.
    """

    name: ClassVar[str] = "null-text"
    refines: ClassVar[bool] = True
    is_random: ClassVar[bool] = False

    inner_steps: Annotated[int, Range(1)] = 10
    """Updates of the embedding at each step, at most."""
    learning_rate: Annotated[float, Range(0, above=True)] = 0.01
    """Size of the first updates; it falls with the steps."""

    def __post_init__(self) -> None:
        settle(self, f"{self.name}.")

    @contextmanager
    def inverted(self, source: SourceClip) -> Generator[Inverted]:
        """Find one embedding for each step, from that of the negative prompt and shared by all frames."""
        with source.recorded(inversion.invert, source.refinement) as trajectory:
            null_embeds = {} if source.guidance_scale == 1 else self._found(source, trajectory)
            yield Inverted(timesteps=source.timesteps, trajectory=trajectory, null_embeds=null_embeds)

    def _found(self, source: SourceClip, trajectory: Trajectory) -> dict[int, PromptRows]:
        run = optimise(
            trajectory,
            source.latents,
            source.predict_with,
            source.backbone.schedule,
            source.timesteps,
            prompt_embeds=source.prompt_embeds,
            null_embeds=source.negative_prompt_embeds,
            guidance_scale=source.guidance_scale,
            inner_steps=self.inner_steps,
            learning_rate=self.learning_rate,
            batch=source.stretch,
        )
        return {
            found.timestep: found.embeds
            for found in tracked(run, source.progress, "null text", len(source.timesteps))
        }
