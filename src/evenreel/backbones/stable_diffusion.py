"""Stable Diffusion, from a folder in diffusers' layout or from one file; what SD-XL does otherwise is in `sdxl`."""

import hashlib
import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from evenreel.backbones import turns
from evenreel.backbones.base import Backbone, EncodedFrames, Residuals
from evenreel.backbones.conditioning import conditions, frame_size
from evenreel.backbones.folder import ModelFolder
from evenreel.backbones.sharing import exclusive, loaded_once
from evenreel.backbones.single_file import CheckpointFile
from evenreel.backbones.text import PromptEncoder, PromptTokens
from evenreel.backbones.tokenizer import open_tokenizer
from evenreel.backbones.weights import FolderPart, Part, content_fingerprint
from evenreel.diffusion import ddim
from evenreel.diffusion.schedule import NoiseSchedule
from evenreel.errors import WeightsError, argument
from evenreel.types import Frames, Latents, PromptEmbeds, PromptRows

_PIXELS_PER_BATCH = 2**19
"""Pixels that the autoencoder sees together: two frames of 512 x 512, whose activations take about 2 GB."""
_OLDEST_WITH_SIZE = (0, 9)
"""diffusers before this version wrote a size into configurations that was not that of the model."""


class StableDiffusion(Backbone):
    """A Stable Diffusion model whose parts load when they are first used."""

    def __init__(
        self,
        model: ModelFolder | CheckpointFile,
        *,
        name: str,
        device: torch.device,
        dtype: torch.dtype,
        vae: Part | None = None,
        tokenizer: Path | None = None,
        clip_skip: int = 1,
        preset: str = "",
    ) -> None:
        """Check the files (a second or less; no weights are loaded yet).

        `vae` and `tokenizer` stand in the place of the model's own; `clip_skip` counts the layers of the text encoder
        from the last (1) backwards. With the preset `low-memory`, parts lie on the device one at a time, and the
        autoencoder computes large frames in pieces. Raises: WeightsError.
        """
        model.check()
        self.name, self.device, self.dtype, self._model = name, device, dtype, model
        self._vae, self._tokenizer, self._clip_skip = vae, tokenizer, clip_skip
        self._low_memory = preset == "low-memory"
        if vae is None and isinstance(model, CheckpointFile) and not model.has_autoencoder:
            raise WeightsError(
                f"{name}: holds no autoencoder; name one as {argument('vae')}, a folder or a file."
            )
        layers = model.config("text_encoder").get("num_hidden_layers", 12)
        if not 1 <= clip_skip <= layers:
            raise WeightsError(
                f"{name}: its text encoder has {layers} layers, and {argument('clip_skip')} is {clip_skip}."
            )
        # without an offset, files of 2022 mean one step; so do diffusers' pipelines read them
        scheduler = {"steps_offset": 1, **model.config("scheduler", "scheduler_config.json")}
        self.schedule = NoiseSchedule.from_config(scheduler)
        factor = 2 ** (len(self._autoencoder.config.get("block_out_channels", (0, 0, 0, 0))) - 1)
        # Latents of even sides; the UNet passes odd ones of deeper levels on to the way up by itself. Coarser
        # sizes would distort: at 128 pixels, multiples of 64 make 3:2 of 4:3.
        self.size_multiple: int = 2 * factor
        self.latent_scale: int = factor
        """Pixels of a frame for each place of its latents, along each side."""
        self.native_size: int = factor * _side(model.config("unet"))
        self.notices = tuple(model.notices)

    @loaded_once
    def unet(self) -> Any:
        """The noise predictor."""
        from diffusers import UNet2DConditionModel

        return self._part("unet").load(UNet2DConditionModel, self._home, self.dtype)

    @loaded_once
    def vae(self) -> Any:
        """The autoencoder between frames and latents."""
        from diffusers import AutoencoderKL

        vae = self._autoencoder.load(AutoencoderKL, self._home, self._vae_dtype)
        return turns.tiled(vae) if self._low_memory else vae

    @loaded_once
    def text(self) -> PromptEncoder:
        """The tokenizer and the text encoder."""
        from transformers import CLIPTextModel

        text_encoder = self._part("text_encoder").load(CLIPTextModel, self._home, self.dtype)
        tokenizer = self._opened_tokenizer("tokenizer", text_encoder.config.vocab_size)
        return PromptEncoder(tokenizer, text_encoder, clip_skip=self._clip_skip)

    def _opened_tokenizer(self, name: str, vocabulary: int) -> Any:
        """A tokenizer of the model, or the one that stands in its place."""
        if self._tokenizer is not None:
            return open_tokenizer(self._tokenizer, vocabulary)
        if isinstance(self._model, CheckpointFile):
            return self._model.tokenizer(name)
        return open_tokenizer(self._model.path / name, vocabulary)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all that decides what the model does: weights, configurations, scheduler, tokenizer."""
        instead = {}
        if self._vae is not None:
            instead["vae"] = [self._vae.fingerprint, dict(self._vae.config)]
        if self._tokenizer is not None:
            instead["tokenizer"] = [
                hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(self._tokenizer.glob("*"))
            ]
        if self._clip_skip != 1:
            instead["clip_skip"] = self._clip_skip
        if not instead:
            return self._model.fingerprint
        described = f"{self._model.fingerprint}\n{json.dumps(instead, sort_keys=True)}\n"
        return hashlib.sha256(described.encode()).hexdigest()

    @property
    def weights_fingerprint(self) -> str:
        """Hash of the files of weights alone, by which earlier records and adapters know their model."""
        return self._model.weights_fingerprint

    @cached_property
    def unet_fingerprint(self) -> str:
        """Hash of the noise predictor's tensors, however they are stored: adapters know their model by it."""
        return content_fingerprint(self._part("unet").state_dict())

    @property
    def _autoencoder(self) -> Part:
        return self._part("vae") if self._vae is None else self._vae

    @property
    def _vae_dtype(self) -> torch.dtype:
        """In which number type the autoencoder begins."""
        return self.dtype

    @property
    def _home(self) -> torch.device:
        """Where parts lie while they do not work."""
        return turns.RESTING if self._low_memory else self.device

    def _part(self, name: str) -> Part:
        model = self._model
        return model.part(name) if isinstance(model, CheckpointFile) else FolderPart(model, name)

    @torch.no_grad()
    def encode(self, frames: Frames) -> EncodedFrames:
        """Return latents of frames: the mean of the posterior, times the autoencoder's scaling factor."""
        scale = self.vae.config.scaling_factor

        def latents_of(batch: Tensor) -> Tensor:
            return (
                self.vae.encode(batch.to(self.vae.dtype) * 2 - 1).latent_dist.mean.to(self._outside) * scale
            )

        return self._in_batches(frames, latents_of, frames[0, 0].numel())

    @torch.no_grad()
    def decode(self, latents: EncodedFrames) -> Frames:
        """Return frames of latents, clamped to [0, 1]."""
        scale = self.vae.config.scaling_factor

        def frames_of(batch: Tensor) -> Tensor:
            decoded = self.vae.decode((batch / scale).to(self.vae.dtype), return_dict=False)[0]
            return decoded.to(self._outside) / 2 + 0.5

        factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
        return self._in_batches(latents, frames_of, latents[0, 0].numel() * factor**2).clamp(0, 1)

    def embed(self, prompts: list[str]) -> PromptEmbeds:
        """Return hidden states of prompts. Raises: SettingsError for a prompt that cannot be read in full."""
        text = self.text
        with self._turn("text"), exclusive(text):  # tokenizers cannot be used by two threads at once
            return text.embed(prompts).to(self.device)

    def tokens(self, prompt: str) -> PromptTokens:
        """Return the tokens of a prompt, and the words that they make up."""
        with exclusive(self.text):
            return self.text.tokens(prompt)

    def predict_noise(
        self,
        latents: Latents,
        timestep: int,
        prompt_embeds: PromptRows,
        residuals: Residuals | None = None,
    ) -> Latents:
        """Predict the noise in `latents`; each prompt serves as many consecutive latents."""
        repeated = prompt_embeds.repeat_interleave(len(latents) // len(prompt_embeds), dim=0)
        # Another thread may be attached; but checkpoints are computed again in threads of autograd's own.
        alone = nullcontext() if torch.is_grad_enabled() else exclusive(self.unet)
        mixed = torch.autocast(self.device.type, torch.bfloat16) if self.mixed else nullcontext()
        with alone, self._turn("unet"), mixed:
            output = self.unet(
                latents.to(self.dtype),
                timestep,
                **conditions(self.unet, repeated, frame_size(latents, self.latent_scale), self.dtype),
                down_block_additional_residuals=None if residuals is None else residuals.down,
                mid_block_additional_residual=None if residuals is None else residuals.mid,
                return_dict=False,
            )[0].to(self._outside)
        return ddim.to_noise(output, latents, self.schedule.alpha(timestep), self.schedule.prediction_type)

    @property
    def _outside(self) -> torch.dtype:
        """In which type tensors leave."""
        return torch.promote_types(self.dtype, torch.float32)

    def _in_batches(
        self, inputs: Float[Tensor, "frames _ _ _"], compute: Callable[[Tensor], Tensor], pixels: int
    ) -> Float[Tensor, "frames _ _ _"]:
        size = 1 if self._low_memory else max(1, _PIXELS_PER_BATCH // pixels)
        with self._turn("vae"):
            return torch.cat([self._finite(compute, batch.to(self.device)) for batch in inputs.split(size)])

    def _turn(self, part: str) -> AbstractContextManager[None]:
        """The device for a part, where only one fits there; else nothing is moved."""
        if not self._low_memory or self.device == turns.RESTING:
            return nullcontext()
        getattr(self, part)  # loaded before it is anybody's turn
        loaded = {name: vars(self)[name] for name in ("unet", "text", "vae") if name in vars(self)}
        networks = {name: own.text_encoders if name == "text" else (own,) for name, own in loaded.items()}
        if torch.is_grad_enabled():  # threads of autograd's own compute again what is inside
            turns.move(part, networks, self.device)
            return nullcontext()
        return turns.turn_of(part, networks, self.device)

    def _finite(self, compute: Callable[[Tensor], Tensor], batch: Tensor) -> Tensor:
        """What the autoencoder makes of a batch; in single precision from where half of it does not suffice."""
        if self.vae.dtype == torch.float32:
            return compute(batch)
        with exclusive(self.vae):  # nobody else may meet it half changed
            output = compute(batch)
            if bool(torch.isfinite(output).all()):
                return output
            self.vae.to(torch.float32)
            return compute(batch)


def _side(config: dict[str, Any]) -> int:
    """Side of the latents that a UNet was trained on, as diffusers' pipelines read its configuration."""
    size = config.get("sample_size")
    side = min(size) if isinstance(size, list) else size
    version = str(config.get("_diffusers_version", "0.9")).split(".")
    outdated = tuple(int(part) if part.isdigit() else 0 for part in version[:2]) < _OLDEST_WITH_SIZE
    return 64 if side is None or (outdated and side < 64) else side
