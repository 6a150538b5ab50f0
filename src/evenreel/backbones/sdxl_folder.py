"""A Stable Diffusion XL model as a diffusers folder."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from evenreel.backbones.conditioning import SIZES
from evenreel.backbones.folder import PARTS, ModelFolder, check_inputs, read_json
from evenreel.errors import WeightsError

SECOND = "text_encoder_2"
"""The part that only models with several text encoders have."""
REFINER = "is the refiner of Stable Diffusion XL, which only finishes what the base model begins; use the base model"


class SDXLFolder(ModelFolder):
    """A Stable Diffusion XL model in diffusers' layout: two text encoders, each with a tokenizer."""

    parts = MappingProxyType({**PARTS, SECOND: ("CLIPTextModelWithProjection", "model")})
    tokenizers = ("tokenizer", "tokenizer_2")
    wanted = "a Stable Diffusion XL base model"
    gigabytes = 7

    @property
    def empty_is_zero(self) -> bool:
        """Whether an empty prompt is hidden states of zeros, as its model_index.json has it; diffusers' default."""
        index = self.path / "model_index.json"
        return bool(read_json(index).get("force_zeros_for_empty_prompt", True)) if index.exists() else True

    def decided(self) -> dict[str, Any]:
        """Return what of model_index.json decides what the model does."""
        return {"force_zeros_for_empty_prompt": self.empty_is_zero}

    def _check_unet(self) -> None:
        unet, second = self.config("unet"), self.config(SECOND)
        check_sdxl(self.path, unet, self.config("text_encoder"), second)
        check_inputs(self.path, unet, self.config("vae").get("latent_channels", 4))

    def _check_is_model(self, index: Mapping[str, Any]) -> None:
        if _is_null(index.get("text_encoder")) or self._is_refiner():
            raise WeightsError(f"{self.path}: {REFINER}.")
        super()._check_is_model(index)
        for part in ("text_encoder", SECOND):
            if not (self.path / part).is_dir():
                raise WeightsError(
                    f"{self.path}: Stable Diffusion XL has two text encoders, and the folder {part} is missing; "
                    "fetch the model again."
                )

    def _is_refiner(self) -> bool:
        """Whether the UNet takes five sizes: a refiner is told how beautiful, not how large a picture shall be."""
        unet, second = (self._said(part) for part in ("unet", SECOND))
        pooled, each = second.get("projection_dim"), unet.get("addition_time_embed_dim")
        if not isinstance(pooled, int) or not isinstance(each, int):
            return False
        return unet.get("projection_class_embeddings_input_dim") == pooled + 5 * each

    def _said(self, part: str) -> dict[str, Any]:
        return self.config(part) if (self.path / part / "config.json").exists() else {}


def is_sdxl(path: Path) -> bool:
    """Return whether a folder is laid out as those of Stable Diffusion XL are, whole or not."""
    try:
        index = read_json(path / "model_index.json") if (path / "model_index.json").exists() else {}
        unet = read_json(path / "unet" / "config.json") if (path / "unet" / "config.json").exists() else {}
    except WeightsError:
        return False  # said better where the folder is checked
    if unet:
        return unet.get("addition_embed_type") == "text_time"
    return str(index.get("_class_name")).startswith("StableDiffusionXL")


def check_sdxl(
    where: Path, unet: Mapping[str, Any], first: Mapping[str, Any], second: Mapping[str, Any]
) -> None:
    """Raise WeightsError unless a UNet takes what two text encoders give, and nothing else."""
    hidden = first.get("hidden_size", 512) + second.get("hidden_size", 512)
    pooled = second.get("projection_dim", 512)
    takes = unet.get("cross_attention_dim", 1280)
    added = unet.get("projection_class_embeddings_input_dim")
    if takes != hidden:
        raise WeightsError(
            f"{where}: its text encoders give {hidden} features and its UNet takes {takes}; fetch the model again."
        )
    if added != pooled + SIZES * (unet.get("addition_time_embed_dim") or 0) or pooled > hidden:
        raise WeightsError(
            f"{where}: its UNet takes {added} features of pooled text and sizes, which do not follow from a pooled "
            f"text of {pooled}; use a plain Stable Diffusion XL base model."
        )


def _is_null(entry: Any) -> bool:
    return isinstance(entry, list) and bool(entry) and all(value is None for value in entry)
