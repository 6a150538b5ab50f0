"""What a text-to-image model must offer to be edited with."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from evenreel.backbones.text import Embedding, PromptTokens
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


@runtime_checkable
class PromptReader(Protocol):
    """The tokenizers and text encoders of a model, to which LoRAs and embeddings attach."""

    @property
    def text_encoders(self) -> tuple[Any, ...]:
        """The text encoders, one or two, modules of transformers."""
        ...

    @property
    def widths(self) -> tuple[int, ...]:
        """Features of a word before each text encoder."""
        ...

    @property
    def syntax(self) -> str:
        """How prompts are read, `weights` or `plain`."""
        ...

    def reading(self, syntax: str, embeddings: Sequence[Embedding] = ()) -> AbstractContextManager[None]:
        """Read prompts in another way while inside: `weights` or `plain`, and with words that were learnt."""
        ...


class Backbone(ABC):
    """A latent diffusion model. Tensors come in any type and leave on `device` as float32; of a float64 one, as that.

    A model derives from this class. What is abstract it must have, what has a value here it may leave as it is: nothing
    else is asked of a model anywhere.
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
    family: str = ""
    """Which LoRAs are made for it: `sdxl`; empty for Stable Diffusion 1.x and 2.x, whose files fit where their shapes
    do."""
    mixed: bool = False
    """Whether convolutions and matrix products of the noise predictor are computed in bfloat16. All that lies between
    calls, latents and the sampler's arithmetic, is in `dtype`."""
    notices: tuple[str, ...] = ()
    """What had to be assumed of the model, a sentence each. Users are told."""
    options: Mapping[str, Any] = MappingProxyType({})
    """What was told besides the model when it was loaded, by the name of the setting: `vae`, `tokenizer`, `clip_skip`,
    `prediction_type`, `preset`. Records keep it."""

    @property
    @abstractmethod
    def unet(self) -> Any:
        """The noise predictor, a diffusers UNet: hosts attach to its layers."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Hash of the weights, as hexadecimal digits: equal models have equal ones."""

    @property
    def weights_fingerprint(self) -> str:
        """Hash of the files of weights alone, where `fingerprint` is of more; else the same."""
        return self.fingerprint

    @property
    def unet_fingerprint(self) -> str:
        """Hash of the noise predictor's tensors, however they are stored, by which adapters know their model.

        Where a model has no such hash, it is that of all of it.
        """
        return self.fingerprint

    def known_as(self) -> Iterator[str]:
        """Yield the hashes by which other files may know the model, the cheapest first."""
        yield self.fingerprint
        yield self.weights_fingerprint  # of earlier records and adapters
        yield self.unet_fingerprint

    @property
    def text(self) -> PromptReader | None:
        """What reads prompts; None of a model that takes no LoRAs and no embeddings."""
        return None

    @property
    def vae(self) -> Any:
        """The autoencoder, with `encoder` and `decoder`, whose calls `--profile` counts; None where there is none."""
        return None

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
