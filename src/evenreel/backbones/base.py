"""What a text-to-image model must offer to be edited with."""

from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from evenreel.diffusion.schedule import NoiseSchedule
from evenreel.types import Frames, Latents, PromptEmbeds

EncodedFrames = Float[Tensor, "frames channels latent_height latent_width"]
"""`Latents`, where they stand beside frames of another height and width."""

PromptRows = Float[Tensor, "_ tokens features"]
"""`PromptEmbeds`, where they stand beside latents, whose width is another, or beside more prompts."""


@runtime_checkable
class Backbone(Protocol):
    """A latent diffusion model. Tensors go in and come out as float32 on `device`; inside, it computes in `dtype`."""

    @property
    def name(self) -> str:
        """What it was loaded by."""
        ...

    @property
    def unet(self) -> Any:
        """The noise predictor, a diffusers UNet: hosts attach to its layers."""
        ...

    @property
    def schedule(self) -> NoiseSchedule:
        """The noise levels it was trained on."""
        ...

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """In which number type it computes."""
        ...

    @property
    def size_multiple(self) -> int:
        """Width and height of frames must be multiples of this, in pixels."""
        ...

    @property
    def native_size(self) -> int:
        """Side of the square frames it was trained on, in pixels."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hash of the weights, as hexadecimal digits: equal models have equal ones."""
        ...

    def encode(self, frames: Frames) -> EncodedFrames:
        """Latents of frames (the mean of the posterior, so that encoding is deterministic)."""
        ...

    def decode(self, latents: EncodedFrames) -> Frames:
        """Frames of latents, clamped to [0, 1]."""
        ...

    def embed(self, prompts: list[str]) -> PromptEmbeds:
        """Hidden states of prompts. Raises: SettingsError for a prompt that cannot be read in full."""
        ...

    def predict_noise(self, latents: Latents, timestep: int, prompt_embeds: PromptRows) -> Latents:
        """The noise in `latents`, whatever the network predicts natively.

        The batch is a multiple of the prompts: each prompt serves as many consecutive latents.
        """
        ...
