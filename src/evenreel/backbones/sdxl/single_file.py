"""A Stable Diffusion XL model in one safetensors file, in the layout of the original code."""

from collections.abc import Callable
from types import MappingProxyType
from typing import Any, ClassVar

from torch import Tensor

from evenreel.backbones import layouts
from evenreel.backbones.conditioning import SIZES
from evenreel.backbones.folder import check_inputs
from evenreel.backbones.recognise import FIRST_XL_TEXT, SECOND_XL_TEXT, UNET
from evenreel.backbones.sdxl_folder import SECOND, check_sdxl
from evenreel.backbones.single_file import CheckpointFile, is_unread, open_clip


class SDXLCheckpoint(CheckpointFile):
    """A whole Stable Diffusion XL base model in one file."""

    classes: ClassVar = MappingProxyType({**CheckpointFile.classes, SECOND: "CLIPTextModelWithProjection"})
    empty_is_zero = True
    """Whether an empty prompt is hidden states of zeros: so all of these models are trained."""

    def _check_unet(self) -> None:
        unet = self._configs["unet"]
        check_sdxl(self.path, unet, self._configs["text_encoder"], self._configs[SECOND])
        check_inputs(self.path, unet, 4)

    def _unet_config(self) -> dict[str, Any]:
        pooled = (self.header.shape(f"{SECOND_XL_TEXT}text_projection") or (0, 0))[-1]
        added = (self.header.shape(f"{UNET}label_emb.0.0.weight") or (0, 0))[-1]
        return super()._unet_config() | {
            "addition_time_embed_dim": max(1, (added - pooled) // SIZES),
            "projection_class_embeddings_input_dim": added,
        }

    def _text_configs(self) -> dict[str, dict[str, Any]]:
        first, second = (layouts.base("sdxl", part) for part in ("text_encoder", SECOND))
        return {
            "text_encoder": layouts.clip_text(self.header, FIRST_XL_TEXT, first),
            SECOND: layouts.projected_open_clip_text(self.header, SECOND_XL_TEXT, second),
        }

    def _prefixes(self) -> dict[str, str]:
        return {**super()._prefixes(), SECOND: SECOND_XL_TEXT}

    def _conversions(self) -> dict[str, Callable[[dict[str, Tensor]], dict[str, Tensor]]]:
        return {**super()._conversions(), SECOND: self._second}

    def _text_encoder(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return {n.removeprefix(FIRST_XL_TEXT).removeprefix("text_model."): t for n, t in tensors.items()}

    def _second(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return open_clip(tensors, SECOND_XL_TEXT, self._configs[SECOND]["hidden_size"])

    def _padding(self, name: str) -> str:
        return "!" if name == "tokenizer_2" else "<|endoftext|>"

    def _is_unread(self, part: str, name: str, layers: int) -> bool:
        return is_unread(name, layers)
