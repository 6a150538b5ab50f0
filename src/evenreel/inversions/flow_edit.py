"""FlowEdit (arXiv:2412.08629): no inversion at all; the source is noised anew at each step, and differences are taken.

Let x be the clean source, y the edit as it stands, and z = sqrt(a) x + sqrt(1 - a) e the source at the noise level of a
step, with noise e drawn anew. The edit goes to the next step as

    y' = y + (s' - s) (noise_pred(z + sqrt(a) (y - x), edit's prompt) - noise_pred(z, source's prompt))

with s = sqrt(1 - a) / sqrt(a). Where the two prompts ask for the same, the source stays. Told of noisy latents, this is
edit-friendly DDPM inversion with the mean of a deterministic step (eta = 0), which is how it is computed here: hosts
inject from the source's branch as they always do, and the branch has the very noise that the edit has. That branch also
says what the model predicts for the source, so the edit costs no network call more than its own (`beside`).

Noise comes in pairs, e and then -e (antithetic variates: Hammersley and Morton, 1956): a difference of two predictions
has a part that is odd in the noise and says nothing of the edit, and over two neighbouring steps it nearly cancels. The
paper averages over more draws a step for the same end, at as many times the cost. Steps that share deep features
(`cache_interval`) have the same noise too: those features are of a picture with this noise.
"""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar

import torch

from evenreel.diffusion.inversion import Inverted
from evenreel.inversions import ddpm
from evenreel.inversions.base import SourceClip
from evenreel.settings import Before, Range, settle
from evenreel.settings.option_groups import LARGEST_GUIDANCE
from evenreel.types import Latents

BATCH = 8
"""Frames that are noised at once."""


@dataclass(frozen=True, kw_only=True)
class FlowEditInversion:
    """The source noised anew at every level (arXiv:2412.08629): where both prompts agree, the clip stays as it is."""

    name: ClassVar[str] = "flow-edit"
    refines: ClassVar[bool] = False
    is_random: ClassVar[bool] = True

    skip: Annotated[float, Range(0, 1, below=True)] = 0.0
    """Share of the steps, the noisiest ones, that the edit leaves out: the more, the closer to the source it stays."""
    guidance_scale: Annotated[float, Range(0, LARGEST_GUIDANCE)] = 1.0
    """How strongly the source prompt pulls; 1 is no guidance, and half the work."""
    beside: Annotated[bool, Before(False)] = True
    """Whether the noise of the source is predicted in the same network calls as that of the edit, by the model as the
    host has changed it. Otherwise, with a guidance scale that is not 1, and with an adapter that learnt from edits, the
    model alone predicts it before, which takes a third longer."""
    shared_noise: bool | None = None
    """Whether all frames get the same noise. Left out: where motion modules let frames agree each has noise of its
    own, as they learnt it; without them all have the same, or what stands still would flicker."""
    antithetic: Annotated[bool, Before(False)] = True
    """Whether every second step takes the opposite of the noise of the step before, so that what single draws do to a
    picture cancels; otherwise, as published, each step draws anew."""

    def __post_init__(self) -> None:
        settle(self, f"{self.name}.")

    @property
    def guided(self) -> bool:
        """Whether the negative prompt has a part in it."""
        return self.guidance_scale != 1

    @contextmanager
    def inverted(self, source: SourceClip) -> Generator[Inverted]:
        """Invert at the timesteps that are left; `source.seed` decides the noise."""
        timesteps = source.timesteps[int(self.skip * len(source.timesteps)) :]
        relative = self.beside and source.may_be_relative and self.guidance_scale == 1
        if relative:
            predict_noise = _nothing  # a step is linear in what is predicted: the source's part comes later
        elif self.guidance_scale == 1:
            predict_noise = source.predict_noise
        else:
            predict_noise = partial(source.predict_guided, guidance_scale=self.guidance_scale)
        shared_noise = source.motion is None if self.shared_noise is None else self.shared_noise
        with source.room(timesteps) as trajectory, source.room(timesteps, "added_noise") as added_noise:
            run = ddpm.record(
                trajectory,
                added_noise,
                source.latents,
                predict_noise,
                source.backbone.schedule,
                seed=source.seed,
                shared_noise=shared_noise,
                antithetic=self.antithetic,
                held=source.cache_interval,
                batch=BATCH if relative else source.batch,  # where nothing is predicted, frames do not meet
                eta=0.0,
                done=source.done,
            )
            source.follow(run, len(source.latents) * len(timesteps))
            yield Inverted(
                timesteps=timesteps,
                trajectory=trajectory,
                added_noise=added_noise,
                eta=0.0,
                relative=relative,
            )


def _nothing(latents: Latents, _timestep: int) -> Latents:
    return torch.zeros_like(latents)
