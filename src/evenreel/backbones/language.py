"""Language models of transformers, from folders: captions of pictures (BLIP) and other wordings of them.

What they say is decoded greedily, so that the same model says the same of the same; nothing is fetched, and weights are
safetensors only.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from evenreel.backbones.devices import choose_device
from evenreel.backbones.folder import PartFolder
from evenreel.backbones.hub import forbid_remote_code
from evenreel.backbones.vision import normalised, resized
from evenreel.backbones.weights import load_part, one_sentence
from evenreel.errors import WeightsError
from evenreel.files import expanded
from evenreel.types import Frames

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
CAPTION_TOKENS = 40
"""Most tokens of a caption."""
REQUEST = (
    "Write {count} other wordings of this caption of a video. They must say the same. Write one on each line, and "
    "nothing else.\n\nCaption: {caption}\n"
)
"""What a language model is asked."""
_WORDS = re.compile(
    r"config\.json|generation_config\.json|(?:added_|special_)?tokens?(?:izer)?(?:_config|_map)?s?\.json|tokenizer\.model"
    r"|vocab\.(?:txt|json)|merges\.txt|chat_template\.jinja"
)
"""Files beside the weights that decide what is said."""
_MARK = re.compile(r"^\s*(?:[-*\u2022]|\d{1,3}[.):])\s+")
"""What stands before an entry of a list."""


class LanguageFolder(PartFolder):
    """A network that writes, in transformers' layout: its tokenizer lies beside its weights."""

    def _deciding_files(self) -> list[Path]:
        return sorted(file for file in self.path.iterdir() if file.is_file() and _WORDS.fullmatch(file.name))


class CaptionerFolder(LanguageFolder):
    """A BLIP: config.json, model.safetensors and its tokenizer in one folder."""

    gigabytes = 1.0

    parts: Mapping[str, tuple[str, str]] = MappingProxyType({"": ("BlipForConditionalGeneration", "model")})
    wanted = "a BLIP that writes captions, for example Salesforce/blip-image-captioning-large"


class CausalFolder(LanguageFolder):
    """A causal language model of transformers' own: config.json, model.safetensors and its tokenizer in one folder."""

    gigabytes = 3.0

    parts: Mapping[str, tuple[str, str]] = MappingProxyType({"": ("*ForCausalLM", "model")})
    wanted = "a causal language model, for example Qwen/Qwen2.5-1.5B-Instruct"

    @property
    def model_class(self) -> Any:
        """The class of transformers that its configuration names. Raises: WeightsError for another."""
        import transformers

        config = self.config("")
        named = config.get("architectures")
        name = named[0] if isinstance(named, list) and named and isinstance(named[0], str) else ""
        found = getattr(transformers, name, None) if name.endswith("ForCausalLM") else None
        if found is None or "auto_map" in config:
            raise WeightsError(
                f"{self.path}: must be a causal language model that transformers has, got {name[:60] or 'another'}; "
                f"use {self.wanted}."
            )
        return found

    def check_kind(self) -> None:
        """Raise WeightsError unless the configuration is that of such a model; no weights are needed."""
        _ = self.model_class


class Captioner:
    """A BLIP that says in a sentence what a picture shows (arXiv:2201.12086)."""

    def __init__(self, folder: CaptionerFolder, *, device: torch.device) -> None:
        """Load it, in float32. Raises: WeightsError."""
        from transformers import BlipForConditionalGeneration

        folder.check()
        self.fingerprint = folder.fingerprint
        self._device = device
        self._model: Any = load_part(folder, "", BlipForConditionalGeneration, device, torch.float32)
        self._tokenizer = open_words(folder.path)

    @torch.inference_mode()
    def caption(self, frame: Frames) -> str:
        """Return what one frame (1 3 height width) shows; it is resized (bicubic, antialiased, clamped) to the model's
        square."""
        side = self._model.config.vision_config.image_size
        picture = normalised(resized(frame, (side, side), "bicubic"), CLIP_MEAN, CLIP_STD)
        said = self._model.generate(
            pixel_values=picture.to(self._device), max_new_tokens=CAPTION_TOKENS, num_beams=1, do_sample=False
        )
        return str(self._tokenizer.decode(said[0], skip_special_tokens=True)).strip()


class Reworder:
    """A causal language model that words captions otherwise."""

    def __init__(self, folder: CausalFolder, *, device: torch.device) -> None:
        """Load it, in float32. Raises: WeightsError."""
        folder.check()
        self.fingerprint = folder.fingerprint
        self._device = device
        self._model: Any = load_part(folder, "", folder.model_class, device, torch.float32)
        self._tokenizer = open_words(folder.path)

    @torch.inference_mode()
    def reworded(self, caption: str, count: int) -> list[str]:
        """Return at most `count` other wordings of a caption, each a line that the model wrote."""
        from transformers import GenerationConfig

        asked = REQUEST.format(count=count, caption=caption)
        words = self._tokenizer
        if words.chat_template:
            asked = words.apply_chat_template(
                [{"role": "user", "content": asked}], tokenize=False, add_generation_prompt=True
            )
        tokens = words(asked, return_tensors="pt", add_special_tokens=not words.chat_template).input_ids
        own = self._model.generation_config
        greedy = GenerationConfig(
            max_new_tokens=2 * CAPTION_TOKENS * count,
            num_beams=1,
            do_sample=False,
            eos_token_id=own.eos_token_id,
            pad_token_id=own.pad_token_id if own.pad_token_id is not None else words.eos_token_id,
        )
        said = self._model.generate(
            input_ids=tokens.to(self._device),
            attention_mask=torch.ones_like(tokens).to(self._device),
            generation_config=greedy,
        )
        return lines(str(words.decode(said[0, tokens.shape[1] :], skip_special_tokens=True)))[:count]


def lines(answer: str) -> list[str]:
    """Return the entries of a list that a language model wrote, without marks, numbers and quotes around them."""
    bare = (_MARK.sub("", line).strip().strip("\"'\u201c\u201d").strip() for line in answer.splitlines())
    return [line for line in bare if line]


def load_captioner(location: str, *, device: str | torch.device | None = None) -> Captioner:
    """Load a BLIP from a folder in transformers' layout, safetensors only. Raises: WeightsError."""
    return Captioner(CaptionerFolder(expanded(location)), device=choose_device(device))


def load_reworder(location: str, *, device: str | torch.device | None = None) -> Reworder:
    """Load a causal language model from a folder in transformers' layout, safetensors only. Raises: WeightsError."""
    return Reworder(CausalFolder(expanded(location)), device=choose_device(device))


def open_words(folder: Path) -> Any:
    """Open the tokenizer that lies beside a network. Raises: WeightsError."""
    from transformers import AutoTokenizer

    forbid_remote_code()
    with one_sentence(folder):
        try:
            return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except Exception as error:
            if type(error) is Exception:  # which is all that the tokenizers library raises
                raise ValueError(str(error)) from error
            raise
