"""What an inversion is, what it is given, and what it may call."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

from evenreel import registry
from evenreel.backbones import Backbone
from evenreel.diffusion import guidance, inversion
from evenreel.diffusion.inversion import Inverted
from evenreel.diffusion.schedule import refine
from evenreel.diffusion.trajectory import Trajectory
from evenreel.errors import SettingsError, argument
from evenreel.progress import Progress, silent
from evenreel.settings import EditSettings, read
from evenreel.types import Latents, PromptRows


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
        return guidance.predict(
            lambda batch, prompts: self.backbone.predict_noise(batch, timestep, prompts),
            latents,
            self.negative_prompt_embeds,
            self.prompt_embeds,
            guidance_scale,
        )

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


def create_inversion(settings: EditSettings) -> Inversion:
    """Make the inversion that an edit is to use, with its options. Raises: PluginError, SettingsError."""
    name = settings.inversion
    kind = registry.find(registry.INVERSIONS, name)
    inversion = read(kind, settings.inversion_options, f"inversion {name}", within=f"{name}.")
    if settings.inversion_steps not in (None, settings.steps) and not inversion.refines:
        raise SettingsError(
            f"inversion {name} goes through the {settings.steps} steps of the sampling and no others, got "
            f"{argument('inversion_steps')} {settings.inversion_steps}; leave it out, or choose an inversion that "
            "refines, such as ddim."
        )
    return inversion
