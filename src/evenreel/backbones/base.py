"""What a text-to-image model must offer to be edited with."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from evenreel.backbones.text import PromptTokens
from evenreel.diffusion.schedule import NoiseSchedule
from evenreel.types import Frames, Latents, PromptEmbeds, PromptRows

EncodedFrames = Float[Tensor, "frames channels latent_height latent_width"]
"""`Latents`, where they stand beside frames of another height and width."""


class Residuals(NamedTuple):
    """What a ControlNet adds inside the UNet."""

    down: tuple[Float[Tensor, "batch _ _ _"], ...]
    """To the skip connections, in their order."""
    mid: Float[Tensor, "batch _ _ _"]
    """To the output of the middle block."""

    def behind(self, rows: int) -> "Residuals":
        """Return the same for a batch with `rows` rows more in front, to which nothing is added."""
        return Residuals(tuple(_behind(rows, tensor) for tensor in self.down), _behind(rows, self.mid))


def _behind(rows: int, tensor: Tensor) -> Tensor:
    return torch.cat([tensor.new_zeros(rows, *tensor.shape[1:]), tensor])


def known_as(model: Any) -> Iterator[str]:
    """Hashes by which other files may know a model, the cheapest first: of all of it, of its files of weights (earlier
    records and adapters), and of its noise predictor's tensors, however they are stored."""
    for name in ("fingerprint", "weights_fingerprint", "unet_fingerprint"):
        if (found := getattr(model, name, None)) is not None:
            yield found


class Guidance(NamedTuple):
    """How strongly prompts should pull in a model, where nothing else is asked for."""

    edit: float = 7.5
    """In an edit. The usual scale of Stable Diffusion."""
    generate: float = 7.5
    """In a clip made from text."""
    quick_edit: "QuickEdit | None" = None
    """How an edit saves time at equal quality; None where that was not measured."""


class QuickEdit(NamedTuple):
    """What saves time in a model's edits by their defaults (host `frame`, inversion `flow-edit`), as measured."""

    steps: int
    """Denoising steps."""
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    """Noise levels at which guidance is at work, as shares from 0 (clean) to 1."""


class Backbone(ABC):
    """A latent diffusion model. Tensors come in any type and leave on `device` as float32; of a float64 one, as that.

    Any class with all that stands here counts as one, also where it is not derived from this one. (A protocol's
    `isinstance` would read `unet` and so load the weights; this one looks at the class alone.)
    """

    name: str
    """What it was loaded by."""
    schedule: NoiseSchedule
    """The noise levels it was trained on."""
    device: torch.device
    """Where it computes."""
    dtype: torch.dtype
    """In which number type it computes inside."""
    size_multiple: int
    """Width and height of frames must be multiples of this, in pixels."""
    native_size: int
    """Side of the square frames it was trained on, in pixels."""
    guidance: Guidance = Guidance()
    """How strongly prompts pull, unless told otherwise."""

    @property
    @abstractmethod
    def unet(self) -> Any:
        """The noise predictor, a diffusers UNet: hosts attach to its layers."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Hash of the weights, as hexadecimal digits: equal models have equal ones."""

    @abstractmethod
    def encode(self, frames: Frames) -> EncodedFrames:
        """Return latents of frames (the mean of the posterior, so that encoding is deterministic)."""

    @abstractmethod
    def decode(self, latents: EncodedFrames) -> Frames:
        """Return frames of latents, clamped to [0, 1]."""

    @abstractmethod
    def embed(self, prompts: list[str]) -> PromptEmbeds:
        """Return hidden states of prompts. Raises: SettingsError for a prompt that cannot be read in full."""

    def tokens(self, prompt: str) -> PromptTokens:
        """Return the tokens of a prompt and the words that they make up, which some hosts compare.

        Raises: NotImplementedError where a model does not tell.
        """
        raise NotImplementedError(f"{self.name} does not tell its tokens")

    @abstractmethod
    def predict_noise(
        self,
        latents: Latents,
        timestep: int,
        prompt_embeds: PromptRows,
        residuals: Residuals | None = None,
    ) -> Latents:
        """Predict the noise in `latents`, whatever the network predicts natively.

        The batch is a multiple of the prompts: each prompt serves as many consecutive latents. `residuals` are what a
        ControlNet adds for that batch; without one the argument is not passed.
        """

    @classmethod
    def __subclasshook__(cls, other: type) -> Any:
        methods = ("encode", "decode", "embed", "predict_noise")
        return (cls is Backbone and all(hasattr(other, method) for method in methods)) or NotImplemented
