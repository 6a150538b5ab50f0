"""What an inversion is, what it is given, and what it may call."""

import math
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

from evenreel import registry
from evenreel.backbones import Backbone
from evenreel.diffusion import guidance, inversion
from evenreel.diffusion.inversion import Inverted
from evenreel.diffusion.schedule import refine
from evenreel.diffusion.trajectory import Trajectory
from evenreel.errors import SettingsError, argument
from evenreel.hosts.motion_windows import MotionWindows, Window, predict_fused
from evenreel.progress import Progress, silent
from evenreel.settings import EditSettings, read
from evenreel.settings.option_groups import EDIT_STEPS
from evenreel.types import Latents, PromptRows


@runtime_checkable
class Kept(Protocol):
    """Keeps what an inversion has done so far, so that one that was stopped goes on."""

    @property
    def done(self) -> int:
        """Frames' steps that need not be done again."""
        ...

    def room(self, name: str, timesteps: tuple[int, ...]) -> Trajectory | None:
        """Return room for the clip at each of `timesteps`, with what is there already; None where a name is taken."""
        ...

    def mark(self, done: int, *, last: bool = False) -> None:
        """Hear how many frames' steps are done; keeps them now and then, and the last time."""
        ...


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
    cache_interval: int = 1
    """Steps of the sampling in a row that share deep features; noise that is drawn anew at each level is the same for
    them."""
    seed: int = 0
    """Where all randomness starts."""
    batch: int = 8
    """Frames that are inverted together."""
    together: bool = False
    """Whether they see each other, so that none may be left out."""
    may_be_relative: bool = False
    """Whether sampling can take predictions relative to the source's, which then need not be known before."""
    motion: MotionWindows | None = None
    """Motion modules, which the clip is sampled with too; None without. Then the whole clip is inverted together, and
    its windows pass through the model one by one."""
    progress: Progress = silent
    """Told how far the inversion is."""
    kept: Kept | None = None
    """What is kept of the inversion; None where nothing is."""

    @property
    def stretch(self) -> int:
        """Frames that pass together where gradients are wanted; with motion modules, equal parts of the clip."""
        if self.motion is None:
            return self.batch
        parts = math.ceil(len(self.latents) / self.motion.size)
        return math.ceil(len(self.latents) / parts)

    def predict_noise(self, latents: Latents, timestep: int) -> Latents:
        """Predict noise as the clip's own prompt has it."""
        return self._in_windows(
            latents,
            timestep,
            lambda part, frames: self.backbone.predict_noise(
                part, timestep, _rows(self.prompt_embeds, frames)
            ),
        )

    def predict_with(self, latents: Latents, timestep: int, prompt_embeds: PromptRows) -> Latents:
        """Predict noise for frames that pass together, with a prompt of theirs."""
        here = latents.to(self.backbone.device)  # those of a long clip lie elsewhere
        with nullcontext() if self.motion is None else self.motion.passing(len(latents)):
            return self.backbone.predict_noise(here, timestep, prompt_embeds).to(latents)

    def predict_guided(self, latents: Latents, timestep: int, *, guidance_scale: float) -> Latents:
        """Predict noise under guidance; both branches pass together, as in sampling."""
        return self._in_windows(
            latents,
            timestep,
            lambda part, frames: guidance.predict(
                lambda batch, prompts: self.backbone.predict_noise(batch, timestep, prompts),
                part,
                _rows(self.negative_prompt_embeds, frames),
                _rows(self.prompt_embeds, frames),
                guidance_scale,
            ),
        )

    def _in_windows(
        self, latents: Latents, timestep: int, predict: Callable[[Latents, Sequence[int] | None], Latents]
    ) -> Latents:
        """`predict` for latents and the frames that they are (None: all), window by window with motion modules."""
        motion = self.motion
        device = self.backbone.device  # latents of a long clip lie elsewhere
        if motion is None:
            return predict(latents.to(device), None).to(latents)

        def of_window(window: Window) -> Latents:
            with motion.passing(len(window.frames)):
                return predict(latents[list(window.frames)].to(device), window.frames)

        return predict_fused(latents, motion.cut(len(latents), timestep), of_window)

    @property
    def done(self) -> int:
        """Frames' steps that are in the rooms already, of an inversion that was stopped."""
        return 0 if self.kept is None else self.kept.done

    def room(self, timesteps: tuple[int, ...], name: str = "trajectory") -> Trajectory:
        """Make room for the clip at each of `timesteps`, on disk when that is much; a second one takes another name.

        Where the inversion is kept, what is there of it is in it; `follow` keeps what comes.
        """
        if self.kept is not None and (found := self.kept.room(name, timesteps)) is not None:
            return found
        frames, channels, height, width = self.latents.shape
        return Trajectory(timesteps, (frames, channels, height, width), dtype=self.latents.dtype)

    def follow(self, run: Iterator[int], total: int) -> None:
        """Run to the end and show how far it is."""
        self.progress("invert", self.done, total)
        for done in run:
            if self.kept is not None:
                self.kept.mark(done, last=done == total)
            self.progress("invert", done, total)

    @contextmanager
    def recorded(self, method: inversion.Invert, refinement: int = 1) -> Generator[Trajectory]:
        """Record the clip at each of its timesteps, by a deterministic `method`."""
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
                done=self.done,
            )
            self.follow(run, len(self.latents) * len(timesteps))
            yield trajectory


def _rows(embeds: PromptRows, frames: Sequence[int] | None) -> PromptRows:
    """Those of some frames, where there is one for each."""
    return embeds if frames is None or len(embeds) == 1 else embeds[list(frames)]


@runtime_checkable
class Inversion(Protocol):
    """A frozen dataclass whose fields are settings: a way from a clip to what its edit starts from."""

    name: ClassVar[str]
    refines: ClassVar[bool]
    """Whether it may take more steps than the sampling."""

    def inverted(self, source: SourceClip) -> AbstractContextManager[Inverted]:
        """Invert the clip; what comes of it lives inside."""
        ...


@runtime_checkable
class TellsRandom(Protocol):
    """An inversion that says whether it draws; of another one it is taken that it does."""

    @property
    def is_random(self) -> bool:
        """Whether `seed` decides anything; where not, edits say that a seed has no effect."""
        ...


@runtime_checkable
class TellsGuided(Protocol):
    """An inversion that says whether the negative prompt has a part in it; of another one it is taken that it has."""

    @property
    def guided(self) -> bool:
        """Whether it is guided by itself; where not, edits that differ in guidance and negative prompt share it."""
        ...


def is_random(inversion: Inversion) -> bool:
    """Return whether an inversion may draw."""
    return inversion.is_random if isinstance(inversion, TellsRandom) else True


def may_be_guided(inversion: Inversion) -> bool:
    """Return whether the negative prompt may have a part in an inversion."""
    return inversion.guided if isinstance(inversion, TellsGuided) else True


def create_inversion(settings: EditSettings) -> Inversion:
    """Make the inversion that an edit is to use, with its options. Raises: PluginError, SettingsError."""
    name = settings.inversion
    kind = registry.find(registry.INVERSIONS, name)
    inversion = read(kind, settings.inversion_options, f"inversion {name}", within=f"{name}.")
    steps = settings.steps or EDIT_STEPS
    if settings.inversion_steps not in (None, steps) and not inversion.refines:
        raise SettingsError(
            f"inversion {name} goes through the {steps} steps of the sampling and no others, got "
            f"{argument('inversion_steps')} {settings.inversion_steps}; leave it out, or choose an inversion that "
            "refines, such as ddim."
        )
    return inversion
