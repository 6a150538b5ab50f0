"""The inversions as one switch: what each makes of a source clip, and how it is told what it may be told."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch

from evenreel.adapters.inversion_filter import BilateralSettings, features_filtered, inversion_method
from evenreel.backbones import Backbone
from evenreel.backbones.base import PromptRows
from evenreel.diffusion import ddpm_inversion, fixed_point, guidance, inversion, null_text
from evenreel.diffusion.inversion import Inverted
from evenreel.diffusion.schedule import refine
from evenreel.diffusion.trajectory import Trajectory
from evenreel.errors import SettingsError
from evenreel.progress import Progress, silent, tracked
from evenreel.settings import EditSettings, read
from evenreel.settings.runs import LARGEST_GUIDANCE
from evenreel.types import Latents


@dataclass(frozen=True, kw_only=True)
class SourceClip:
    """A clip to be inverted, and what its edit will be sampled with."""

    backbone: Backbone
    """The model, as the host wants it for an inversion."""
    latents: Latents
    """The clip without noise."""
    timesteps: tuple[int, ...]
    """Where sampling goes, descending."""
    prompt_embeds: PromptRows
    """What the clip shows."""
    negative_prompt_embeds: PromptRows
    """What guidance leads away from."""
    guidance_scale: float = 1.0
    """Of the edit; 1 is none."""
    refinement: int = 1
    """Steps of the inversion for each one of the sampling, where an inversion can be finer."""
    seed: int = 0
    """Where all randomness starts."""
    batch: int = 8
    """Frames that pass through the model together."""
    together: bool = False
    """Whether they see each other there, so that none may be left out."""
    progress: Progress = silent
    """Told how far the inversion is."""

    def predict_noise(self, latents: Latents, timestep: int) -> Latents:
        """As the clip's own prompt has it."""
        return self.backbone.predict_noise(latents, timestep, self.prompt_embeds)

    def predict_guided(self, latents: Latents, timestep: int, *, guidance_scale: float) -> Latents:
        """Away from the negative prompt towards the clip's own; both branches pass together, as in sampling."""
        if guidance_scale == 1:
            return self.predict_noise(latents, timestep)
        rows = [self.negative_prompt_embeds, self.prompt_embeds]
        if len({len(row) for row in rows}) > 1:
            rows = [row.expand(len(latents), -1, -1) for row in rows]
        noise_pred = self.backbone.predict_noise(guidance.stack([latents] * 2), timestep, torch.cat(rows))
        uncond, cond = guidance.split(noise_pred, 2)
        return guidance.combine(uncond, cond, guidance_scale)

    def room(self, timesteps: tuple[int, ...]) -> Trajectory:
        """Room for the clip at each of `timesteps`, on disk when that is much."""
        frames, channels, height, width = self.latents.shape
        return Trajectory(timesteps, (frames, channels, height, width))

    def follow(self, run: Iterator[int], total: int) -> None:
        """Run to the end and show how far it is."""
        self.progress("invert", 0, total)
        for done in run:
            self.progress("invert", done, total)

    @contextmanager
    def recorded(self, method: inversion.Invert, refinement: int = 1) -> Iterator[Trajectory]:
        """The clip at each of its timesteps, by a deterministic `method`."""
        timesteps = refine(self.timesteps, refinement)
        with self.room(self.timesteps) as trajectory:
            run = inversion.record(
                trajectory,
                self.latents,
                self.predict_noise,
                self.backbone.schedule,
                timesteps,
                batch=self.batch,
                method=method,
            )
            self.follow(run, len(self.latents) * len(timesteps))
            yield trajectory


@runtime_checkable
class Inversion(Protocol):
    """A frozen dataclass whose fields are settings: a way from a clip to what its edit starts from."""

    name: ClassVar[str]
    refines: ClassVar[bool]
    """Whether it may take more steps than the sampling."""

    def inverted(self, source: SourceClip) -> AbstractContextManager[Inverted]:
        """The clip inverted, which lives inside."""
        ...


@dataclass(frozen=True, kw_only=True)
class DdimInversion:
    """DDIM read backwards (arXiv:2105.05233): sampling comes back roughly, and better the more steps are taken."""

    name: ClassVar[str] = "ddim"
    refines: ClassVar[bool] = True

    @contextmanager
    def inverted(self, source: SourceClip) -> Iterator[Inverted]:
        """By `source.refinement` steps for each one of the sampling."""
        with source.recorded(inversion.invert, source.refinement) as trajectory:
            yield Inverted(timesteps=source.timesteps, trajectory=trajectory)


@dataclass(frozen=True, kw_only=True)
class FixedPointInversion:
    """DDIM steps corrected until sampling takes them back (arXiv:2312.12540): nearly exact where guidance is 1."""

    name: ClassVar[str] = "fixed-point"
    refines: ClassVar[bool] = False

    budget: float = 1.0
    """Noise predictions for each step on average, at most: hard steps, which come first, take what others leave."""
    iterations: int = 10
    """Noise predictions for one step, at most."""
    tolerance: float = 2e-3
    """A step ends when no frame's latents, which vary by about 1, still move by more than this (root mean square)."""

    def __post_init__(self) -> None:
        if not 1 <= self.budget < float("inf"):
            raise SettingsError(f"fixed-point.budget must be at least 1, got {self.budget}.")
        if self.iterations < 1:
            raise SettingsError(f"fixed-point.iterations must be at least 1, got {self.iterations}.")
        if not 0 <= self.tolerance < float("inf"):
            raise SettingsError(f"fixed-point.tolerance must be at least 0, got {self.tolerance}.")

    @contextmanager
    def inverted(self, source: SourceClip) -> Iterator[Inverted]:
        """At the sampling's own timesteps: only their steps are taken back."""
        method = partial(
            fixed_point.invert,
            iterations=self.iterations,
            budget=int(self.budget * len(source.timesteps)),
            tolerance=self.tolerance,
            together=source.together,
        )
        with source.recorded(method) as trajectory:
            yield Inverted(timesteps=source.timesteps, trajectory=trajectory)


@dataclass(frozen=True, kw_only=True)
class DdpmInversion:
    """Edit-friendly DDPM inversion (arXiv:2304.06140): noise is added in sampling that leads back to the clip."""

    name: ClassVar[str] = "ddpm"
    refines: ClassVar[bool] = False

    skip: float = 0.36
    """Share of the steps, the noisiest ones, that the edit leaves out: the more, the closer to the source it stays."""
    guidance_scale: float = 3.5
    """How strongly the source prompt pulls while the noise is found."""
    shared_noise: bool = True
    """Whether all frames get the same noise; with noise of their own, what stands still flickers."""

    def __post_init__(self) -> None:
        if not 0 <= self.skip < 1:
            raise SettingsError(f"ddpm.skip must be from 0 to less than 1, got {self.skip}.")
        if not 0 <= self.guidance_scale <= LARGEST_GUIDANCE:
            raise SettingsError(
                f"ddpm.guidance_scale must be from 0 to {LARGEST_GUIDANCE}, got {self.guidance_scale}."
            )

    @contextmanager
    def inverted(self, source: SourceClip) -> Iterator[Inverted]:
        """At the timesteps that are left; `source.seed` decides the noise."""
        timesteps = source.timesteps[int(self.skip * len(source.timesteps)) :]
        with source.room(timesteps) as trajectory, source.room(timesteps) as added_noise:
            run = ddpm_inversion.record(
                trajectory,
                added_noise,
                source.latents,
                partial(source.predict_guided, guidance_scale=self.guidance_scale),
                source.backbone.schedule,
                seed=source.seed,
                shared_noise=self.shared_noise,
                batch=source.batch,
            )
            source.follow(run, len(source.latents) * len(timesteps))
            yield Inverted(timesteps=timesteps, trajectory=trajectory, added_noise=added_noise)


@dataclass(frozen=True, kw_only=True)
class NullTextInversion:
    """DDIM inversion, and negative prompts by which guided sampling follows it (arXiv:2211.09794): slow.

    Without guidance there is nothing to find, and this is `ddim`.
    """

    name: ClassVar[str] = "null-text"
    refines: ClassVar[bool] = True

    inner_steps: int = 10
    """Updates of the embedding at each step, at most."""
    learning_rate: float = 0.01
    """Size of the first updates; it falls with the steps."""

    def __post_init__(self) -> None:
        if self.inner_steps < 1:
            raise SettingsError(f"null-text.inner_steps must be at least 1, got {self.inner_steps}.")
        if not 0 < self.learning_rate < float("inf"):
            raise SettingsError(f"null-text.learning_rate must be above 0, got {self.learning_rate}.")

    @contextmanager
    def inverted(self, source: SourceClip) -> Iterator[Inverted]:
        """One embedding for each step, found from that of the negative prompt and shared by all frames."""
        with source.recorded(inversion.invert, source.refinement) as trajectory:
            null_embeds = {} if source.guidance_scale == 1 else self._found(source, trajectory)
            yield Inverted(timesteps=source.timesteps, trajectory=trajectory, null_embeds=null_embeds)

    def _found(self, source: SourceClip, trajectory: Trajectory) -> dict[int, PromptRows]:
        run = null_text.optimise(
            trajectory,
            source.latents,
            source.backbone.predict_noise,
            source.backbone.schedule,
            source.timesteps,
            prompt_embeds=source.prompt_embeds,
            null_embeds=source.negative_prompt_embeds,
            guidance_scale=source.guidance_scale,
            inner_steps=self.inner_steps,
            learning_rate=self.learning_rate,
            batch=source.batch,
        )
        return {
            found.timestep: found.embeds
            for found in tracked(run, source.progress, "null text", len(source.timesteps))
        }


@dataclass(frozen=True, kw_only=True)
class BilateralInversion(BilateralSettings):
    """DDIM inversion of what a bilateral filter leaves (arXiv:2501.04606): noise is smoothed away, edges are kept."""

    name: ClassVar[str] = "bilateral"
    refines: ClassVar[bool] = True

    @contextmanager
    def inverted(self, source: SourceClip) -> Iterator[Inverted]:
        """By `source.refinement` steps for each one of the sampling; `source.seed` decides the noise of `eta`."""
        trained = len(source.backbone.schedule.alphas_cumprod)
        with ExitStack() as stack:
            with features_filtered(source.backbone.unet, self, trained=trained):
                method = inversion_method(self, seed=source.seed)
                trajectory = stack.enter_context(source.recorded(method, source.refinement))
            yield Inverted(timesteps=source.timesteps, trajectory=trajectory)


INVERSIONS: dict[str, type[Any]] = {
    kind.name: kind
    for kind in (BilateralInversion, DdimInversion, DdpmInversion, FixedPointInversion, NullTextInversion)
}


def create_inversion(settings: EditSettings) -> Inversion:
    """The inversion that was chosen, with its options. Raises: SettingsError."""
    name = settings.inversion
    inversion = read(INVERSIONS[name], settings.inversion_options, f"inversion {name}", within=f"{name}.")
    if settings.inversion_steps not in (None, settings.steps) and not inversion.refines:
        finer = " or ".join(other for other, kind in INVERSIONS.items() if kind.refines)
        raise SettingsError(
            f"inversion {name} goes through the {settings.steps} steps of the sampling and no others, got "
            f"inversion_steps {settings.inversion_steps}; leave them out, or choose the inversion {finer}."
        )
    return inversion
