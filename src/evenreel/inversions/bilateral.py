"""Bilateral DDIM inversion (SCD of the GE-Adapter, arXiv:2501.04606, section 3.3): structure that frames share is kept,
noise that they do not is smoothed away before it is inverted.

Three forms. `latent`, the paper's (eq. 9 to 12): the noisy latents are filtered in space before each step, and the step
starts from what is left. `feature-time`, that of the published code: what two self-attentions of the decoder give is
filtered along the frames, and latents never are. `clean`, ours: of noisy latents only what is predicted clean is
filtered in space, so that their noise keeps its strength.
"""

from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from evenreel import random
from evenreel.adapters.window import Window
from evenreel.backbones import hooks, layers
from evenreel.diffusion import inversion
from evenreel.diffusion.inversion import Inverted
from evenreel.diffusion.schedule import NoiseSchedule
from evenreel.errors import SettingsError
from evenreel.inversions.base import SourceClip
from evenreel.ops import bilateral
from evenreel.scratch import piecewise
from evenreel.settings import Range, settle
from evenreel.types import Latents


@dataclass(frozen=True, kw_only=True)
class BilateralInversion:
    """DDIM inversion of what a bilateral filter leaves (arXiv:2501.04606): noise is smoothed away, edges are kept."""

    name: ClassVar[str] = "bilateral"
    refines: ClassVar[bool] = True
    guided: ClassVar[bool] = False

    mode: Literal["latent", "clean", "feature-time"] = "latent"
    """`latent` (the noisy latents, in space), `clean` (what is predicted clean of them) or `feature-time` (two
    self-attentions, along the frames)."""
    kernel: int = 5
    """Pixels of latents, or frames, that a mean is taken over in each direction; odd."""
    sigma_spatial: float = 1.0
    """Deviation of the weights over distance, in pixels of latents or in frames: neighbours farther away count less."""
    sigma_intensity: float = 1.0
    """Deviation of the weights over differences of value: neighbours that differ more count less; latents vary by about
    1."""
    edge: Literal["reflect", "valid"] = "reflect"
    """In space: what lies beyond the border, `reflect` (the inside mirrored) or `valid` (nothing)."""
    start: float = 0.0
    """Share of the training timesteps from which steps are filtered; 0 is clean."""
    end: float = 1.0
    """Share of the training timesteps up to which steps are filtered; 1 is noise."""
    eta: Annotated[float, Range(0, 1)] = 0.0
    """How much of a step's noise is drawn, the same for all frames, instead of predicted: 0 is none, 1 all of it."""

    @property
    def is_random(self) -> bool:
        """Whether some of the noise is drawn."""
        return self.eta > 0

    def __post_init__(self) -> None:
        settle(self, f"{self.name}.")
        bilateral.check(self.kernel, self.sigma_spatial, self.sigma_intensity)
        _ = self.window
        if self.mode == "feature-time" and self.edge != "reflect":
            raise SettingsError("bilateral edge has no effect in mode feature-time; leave it out.")

    @property
    def window(self) -> Window:
        """The noise levels at which steps are filtered. Raises: SettingsError."""
        return Window(self.start, self.end)

    def filter_latents(self, latents: Latents) -> Latents:
        """Filter latents in space, every channel of every frame by itself (eq. 9 to 11)."""
        return bilateral.filter_2d(
            latents,
            kernel=self.kernel,
            sigma_spatial=self.sigma_spatial,
            sigma_intensity=self.sigma_intensity,
            edge=self.edge,
        )

    def filter_frames(
        self, features: Float[Tensor, "batch tokens channels"], branches: int = 1
    ) -> Float[Tensor, "batch tokens channels"]:
        """Filter tokens along the frames, every channel of every token by itself; branches never see each other."""
        frames = features.reshape(branches, -1, *features.shape[1:])
        filtered = bilateral.filter_1d(
            frames,
            kernel=self.kernel,
            sigma_spatial=self.sigma_spatial,
            sigma_intensity=self.sigma_intensity,
            dim=1,
        )
        return filtered.flatten(0, 1)

    @contextmanager
    def inverted(self, source: SourceClip) -> Generator[Inverted]:
        """Invert by `source.refinement` steps for each one of the sampling; `source.seed` decides the noise of
        `eta`."""
        trained = len(source.backbone.schedule.alphas_cumprod)
        with ExitStack() as stack:
            with features_filtered(source.backbone.unet, self, trained=trained):
                method = bilateral_method(self, seed=source.seed)
                trajectory = stack.enter_context(source.recorded(method, source.refinement))
            yield Inverted(timesteps=source.timesteps, trajectory=trajectory)


def bilateral_method(settings: BilateralInversion, *, seed: int = 0) -> inversion.Invert:
    """Return how `diffusion.inversion.record` inverts: DDIM with these settings; `feature-time` needs
    `features_filtered` too.

    `seed` decides the noise that `eta` asks for.
    """

    def method(
        latents: Latents,
        predict_noise: inversion.PredictNoise,
        schedule: NoiseSchedule,
        timesteps: Any,
        reached: int | None = None,
    ) -> Iterator[tuple[int, Latents]]:
        trained = len(schedule.alphas_cumprod)

        def filtered(latents: Latents, timestep: int) -> Latents:
            within = settings.window.holds(timestep, trained)
            return piecewise(settings.filter_latents, latents) if within else latents

        return inversion.invert(
            latents,
            predict_noise,
            schedule,
            timesteps,
            prefilter=filtered if settings.mode == "latent" else None,
            clean_filter=filtered if settings.mode == "clean" else None,
            eta=settings.eta,
            added_noise=partial(_drawn, like=latents, seed=seed),
            reached=reached,
        )

    return method


@dataclass
class FeatureFiltering:
    """What the layers are to do in the network call at hand."""

    branches: int = 1
    """Branches of guidance in the batch, outermost."""
    active: bool = True
    """Whether the timestep is one that is filtered."""


@contextmanager
def features_filtered(
    unet: Any, settings: BilateralInversion, *, trained: int = 1000
) -> Generator[FeatureFiltering]:
    """Filter along the frames, while inside, what the self-attentions of the decoder's last block give.

    These are the first two of its transformers, up_blocks.3.attentions.0 and 1 on SD 1.x, after the output projection.
    The frames of one network call are one stretch of time; with guidance, set `branches` of what is yielded. In other
    modes than `feature-time` nothing happens.
    """
    state = FeatureFiltering()

    def see(timestep: int) -> None:
        state.active = settings.window.holds(timestep, trained)

    def change(features: Tensor) -> Tensor:
        return settings.filter_frames(features, state.branches) if state.active else features

    with ExitStack() as stack:
        if settings.mode == "feature-time":
            stack.enter_context(hooks.timesteps_seen(unet, see))
            for name in layers.last_self_attentions(unet):
                stack.enter_context(hooks.forward_hooked(layers.attention(unet, name), change))
        yield state


def _drawn(timestep: int, *, like: Latents, seed: int) -> Latents:
    # One picture of noise for all frames: with noise of their own, what stands still would flicker.
    generator = random.generator(seed, timestep, 0)
    noise = torch.randn((1, *like.shape[1:]), generator=generator)
    return noise.to(like).expand_as(like)
