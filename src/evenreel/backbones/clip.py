"""CLIP: texts and pictures in one space."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import torch
from jaxtyping import Float
from torch import Tensor

from evenreel.backbones import mini
from evenreel.backbones.devices import choose_device
from evenreel.backbones.folder import ModelFolder, PartFolder
from evenreel.backbones.sharing import exclusive
from evenreel.backbones.text import PromptEncoder
from evenreel.backbones.tokenizer import open_tokenizer
from evenreel.backbones.vision import Resized, normalised, resized
from evenreel.backbones.weights import load_part
from evenreel.files import expanded
from evenreel.types import Frames

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""CLIP's own normalisation."""


class ClipFolder(PartFolder):
    """A CLIP with both towers, in transformers' layout: the folder holds config.json and model.safetensors."""

    gigabytes = 0.6

    parts: Mapping[str, tuple[str, str]] = MappingProxyType({"": ("CLIPModel", "model")})
    wanted = "a CLIP, for example openai/clip-vit-large-patch14"


class ClipModel:
    """A CLIP that embeds texts and frames."""

    def __init__(self, folder: ClipFolder, tokenizer: Path, *, name: str, device: torch.device) -> None:
        """Load it, in float32; `tokenizer` is the folder with its vocabulary. Raises: WeightsError."""
        from transformers import CLIPModel

        folder.check()
        self.name, self.device, self.fingerprint = name, device, folder.fingerprint
        self.weights_fingerprint = folder.weights_fingerprint
        self._model = load_part(folder, "", CLIPModel, device, torch.float32)
        words = open_tokenizer(tokenizer, self._model.config.text_config.vocab_size)
        self._prompts = PromptEncoder(words, self._model.text_model)

    @property
    def known_as(self) -> tuple[str, ...]:
        """Hashes by which other files may know it: of all of it, and of its files of weights (earlier ones)."""
        return self.fingerprint, self.weights_fingerprint

    @property
    def vision_width(self) -> int:
        """Features of `frame_tokens`."""
        return self._model.config.vision_config.hidden_size

    @torch.inference_mode()
    def embed_texts(self, texts: list[str]) -> Float[Tensor, "texts features"]:
        """Return projected embeddings, not normalised. Raises: SettingsError for a text that cannot be read to its
        end."""
        with exclusive(self._prompts):  # tokenizers cannot be used by two threads at once
            tokens = self._prompts.tokenize(texts).to(self.device)
        return self._model.get_text_features(input_ids=tokens).pooler_output.cpu()

    @torch.inference_mode()
    def embed_frames(self, frames: Frames) -> Float[Tensor, "frames features"]:
        """Return projected embeddings, not normalised, of frames of any size; see `preprocess`."""
        pictures = preprocess(frames, self._model.config.vision_config.image_size)
        return self._model.get_image_features(pixel_values=pictures.to(self.device)).pooler_output.cpu()

    @torch.inference_mode()
    def frame_tokens(self, frames: Frames) -> Float[Tensor, "frames tokens features"]:
        """Return the last hidden states of the vision tower, before its final norm: the class token, then the patches
        by rows."""
        pictures = preprocess(frames, self._model.config.vision_config.image_size)
        return self._model.vision_model(pixel_values=pictures.to(self.device)).last_hidden_state.cpu()


def preprocess(frames: Frames, size: int) -> Resized:
    """Return what the vision tower takes: squares of `size` pixels, normalised.

    The shorter side is resized to `size` (bicubic, antialiased, clamped to [0, 1]), the longer one in proportion,
    rounded down; then the middle is cut out, and CLIP's mean and deviation are applied.
    """
    height, width = frames.shape[2:]
    shorter = min(height, width)
    rows, columns = size * height // shorter, size * width // shorter
    pictures = resized(frames, (rows, columns), "bicubic")
    top, left = (rows - size) // 2, (columns - size) // 2
    return normalised(pictures[..., top : top + size, left : left + size], MEAN, STD)


def load_clip(location: str, *, device: str | torch.device | None = None) -> ClipModel:
    """Load `mini` (packaged; knows the world only) or a folder in transformers' layout, safetensors only.

    Raises: WeightsError.
    """
    chosen = choose_device(device)
    if location == "mini":
        ModelFolder(mini.FOLDER).check_sums(complete=True)
        folder, tokenizer = ClipFolder(mini.FOLDER / "clip"), mini.FOLDER / "tokenizer"
    else:
        folder = ClipFolder(expanded(location))
        tokenizer = folder.path
    return ClipModel(folder, tokenizer, name=location, device=chosen)
