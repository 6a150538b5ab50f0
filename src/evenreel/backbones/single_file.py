"""A Stable Diffusion model in one safetensors file, in the layout of the original code, as most people have them.

Names are translated by diffusers; configurations follow from shapes (`layouts`); nothing is asked of the hub.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor

from evenreel.backbones import configs, layouts, safetensors_file
from evenreel.backbones.folder import SCHEMAS, check_unet
from evenreel.backbones.recognise import (
    CLIP_TEXT,
    FAMILIES,
    FIRST_XL_TEXT,
    OPEN_CLIP_TEXT,
    SUPPORTED,
    UNET,
    USES,
    Found,
    autoencoder_prefix,
    recognise,
)
from evenreel.backbones.safetensors_file import Header, read_header
from evenreel.backbones.weights import Part, into_class, one_sentence
from evenreel.errors import WeightsError, argument

_YAML_LIMIT = 2**18
"""Bytes of a configuration beside a checkpoint."""
_V_ABOVE = 0.09
"""Deviation of a bias of trained SD 2.x UNets: those that predict v lie above, those that predict noise below. The
same mark tells them apart in other programs."""
_V_BIAS = f"{UNET}output_blocks.11.1.transformer_blocks.0.norm1.bias"


@dataclass(frozen=True)
class FilePart(Part):
    """A network inside a safetensors file."""

    header: Header
    name: str
    """What it is called in messages."""
    class_name: str
    """The class into which it is loaded."""
    described: Mapping[str, Any]
    """Its configuration."""
    names: tuple[str, ...]
    """Its tensors in the file."""
    converted: Callable[[dict[str, Tensor]], dict[str, Tensor]] = field(repr=False)
    """Tensors with their names in that class, from those of the file."""

    @property
    def where(self) -> Path:
        """For messages."""
        return self.header.path

    @property
    def config(self) -> Mapping[str, Any]:
        """In diffusers' or transformers' form."""
        return self.described

    @property
    def fingerprint(self) -> str:
        """Hash of the whole file."""
        return safetensors_file.sha256(self.header.path)

    def state_dict(self) -> dict[str, Tensor]:
        """Read all tensors, on the CPU, by their names in the class. Raises: WeightsError."""
        with one_sentence(self.where):
            found = self.converted(safetensors_file.load(self.header.path, self.names))
        # diffusers names what it looked for and did not find too
        return {name: tensor for name, tensor in found.items() if tensor is not None}

    def load(self, model_class: Any, device: torch.device, dtype: torch.dtype) -> Any:
        """Load the network, for inference. Raises: WeightsError."""
        where = f"{self.where}: its {self.name}"
        return into_class(model_class, self.config, self.state_dict(), where, device, dtype)


class CheckpointFile:
    """A whole model in one file; its autoencoder may be missing where another one is given."""

    classes: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL", "text_encoder": "CLIPTextModel"}
    )
    """Parts, and the classes into which they are loaded."""

    def __init__(self, path: Path, *, prediction_type: str | None = None) -> None:
        """Read the header and know what it is.

        `prediction_type` is what the network predicts, where the file does not say. Raises: WeightsError.
        """
        self.path = path
        self.header = read_header(path)
        self.found = recognise(self.header)
        self.notices: list[str] = []
        """What had to be assumed."""
        self._told = prediction_type
        check_checkpoint(path, self.found)
        self.family = self.found.family
        self._configs = {
            "unet": self._unet_config(),
            **self._text_configs(),
        }
        if (prefix := autoencoder_prefix(self.header)) is not None:
            self._configs["vae"] = layouts.autoencoder(self.header, prefix, self.family)
        self._configs["scheduler"] = self._scheduler()
        if self._configs["scheduler"]["prediction_type"] == "v_prediction" and self.family == "sd2":
            self._configs["unet"]["sample_size"] = 96

    def check(self) -> None:
        """Raise WeightsError unless all parts are there and of a layout that is known."""
        for part, class_name in self.classes.items():
            if part in self._configs:
                configs.checked(SCHEMAS[class_name], self._configs[part], f"{self.path}: {part}")
        self._check_unet()
        self.header.check_floats(
            name for part in self.classes if part in self._configs for name in self._names(part)
        )

    @property
    def has_autoencoder(self) -> bool:
        """Whether there is an autoencoder in the file."""
        return "vae" in self._configs

    def config(self, part: str, name: str = "") -> dict[str, Any]:
        """Return a part's configuration, in diffusers' form."""
        del name  # folders have several files in a part
        return dict(self._configs[part])

    def part(self, part: str) -> FilePart:
        """Return the `unet`, the `vae` or a text encoder, such as `text_encoder`."""
        config = self._configs[part]
        convert = self._conversions()[part]
        return FilePart(self.header, part, self.classes[part], config, self._names(part), convert)

    def tokenizer(self, name: str = "tokenizer") -> Any:
        """Open CLIP's, which is that of all such files unless they were made with another one.

        Raises: WeightsError where the text encoder knows fewer words than it has.
        """
        from evenreel.backbones.tokenizer import CLIP_WORDS, clip_tokenizer

        known = self._configs[name.replace("tokenizer", "text_encoder")]["vocab_size"]
        if known < CLIP_WORDS:
            raise WeightsError(
                f"{self.path}: its text encoder knows {known} tokens and CLIP's tokenizer has {CLIP_WORDS}; "
                f"name the folder of the tokenizer it was trained with as {argument('tokenizer')}."
            )
        return clip_tokenizer(padding=self._padding(name))

    @cached_property
    def weights_fingerprint(self) -> str:
        """Hash of the file."""
        return safetensors_file.sha256(self.path)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all that decides what the model does: the file, and what is assumed where it says nothing."""
        assumed = json.dumps(self._configs, sort_keys=True)
        return hashlib.sha256(f"{self.weights_fingerprint}\n{assumed}\n".encode()).hexdigest()

    def _check_unet(self) -> None:
        check_unet(self.path, self._configs["unet"], 4)

    def _unet_config(self) -> dict[str, Any]:
        return layouts.unet(self.header, UNET, self.family)

    def _text_configs(self) -> dict[str, dict[str, Any]]:
        """Of the text encoders, by part."""
        prefix = _TEXT[self.family]
        tower = layouts.clip_text if self.family == "sd1" else layouts.open_clip_text
        return {"text_encoder": tower(self.header, prefix, layouts.base(self.family, "text_encoder"))}

    def _prefixes(self) -> dict[str, str]:
        """What the names of the parts' tensors begin with."""
        prefix = autoencoder_prefix(self.header) or "first_stage_model."
        return {"unet": UNET, "vae": prefix, "text_encoder": _TEXT[self.family]}

    def _conversions(self) -> dict[str, Callable[[dict[str, Tensor]], dict[str, Tensor]]]:
        """Ways from the names of this layout to those of the parts' classes."""
        return {"unet": self._unet, "vae": self._autoencoder, "text_encoder": self._text_encoder}

    def _padding(self, name: str) -> str:
        """With what a tokenizer fills up prompts."""
        del name  # there is one
        return "!" if self.family == "sd2" else "<|endoftext|>"

    def _names(self, part: str) -> tuple[str, ...]:
        prefix, layers = self._prefixes()[part], self._configs.get(part, {}).get("num_hidden_layers", 0)
        return tuple(
            name
            for name in self.header.tensors
            if name.startswith(prefix) and not self._is_unread(part, name.removeprefix(prefix), layers)
        )

    def _is_unread(self, part: str, name: str, layers: int) -> bool:
        """Whether no tool reads a tensor of a part: losses of the training, positions, the last layer of OpenCLIP."""
        del part  # unread in all of them
        return is_unread(name, layers) or name.endswith("text_projection")

    def _unet(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

        return convert_ldm_unet_checkpoint(tensors, self._configs["unet"])

    def _autoencoder(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return autoencoder_tensors(tensors, self._configs["vae"])

    def _text_encoder(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        prefix = _TEXT[self.family]
        if self.family != "sd1":
            tensors = open_clip(tensors, prefix, self._configs["text_encoder"]["hidden_size"])
        return {n.removeprefix(prefix).removeprefix("text_model."): t for n, t in tensors.items()}

    def _scheduler(self) -> dict[str, Any]:
        """Noise levels, as marks in the file, its metadata or a configuration beside it have them."""
        config = layouts.base(self.family, "scheduler")
        metadata, beside = self.header.metadata, _yaml_beside(self.path)
        marks = self.header.tensors.keys()
        said = metadata.get("modelspec.prediction_type") or beside.get("parameterization")
        zero = "ztsnr" in marks or metadata.get("ss_zero_terminal_snr") == "True"
        config["rescale_betas_zero_snr"] = zero
        for ours, theirs in (("beta_start", "linear_start"), ("beta_end", "linear_end")):
            if isinstance(beside.get(theirs), float):
                config[ours] = beside[theirs]
        if self._told:
            config["prediction_type"] = self._told
        elif (
            "v_pred" in marks
            or said in ("v", "v_prediction")
            or metadata.get("ss_v_parameterization") == "True"
        ):
            config["prediction_type"] = "v_prediction"
        elif said in ("epsilon", "eps"):
            config["prediction_type"] = "epsilon"
        elif self.family == "sd2":
            config["prediction_type"] = self._guessed()
        return config

    def _guessed(self) -> str:
        """What an SD 2.x model predicts that does not say so: both kinds are common."""
        deviation = 0.0
        if self.header.shape(_V_BIAS) == (320,):  # the mark is that of the published size
            bias = safetensors_file.load(self.path, [_V_BIAS])[_V_BIAS]
            deviation = float(bias.float().std(correction=0))
        guess = "epsilon" if 0 < deviation <= _V_ABOVE else "v_prediction"
        self.notices.append(
            f"{self.path.name} does not say what it predicts and is taken for {guess}; "
            "if the result is noise, the right prediction type is the other of epsilon and v_prediction."
        )
        return guess


_TEXT = {"sd1": CLIP_TEXT, "sd2": OPEN_CLIP_TEXT, "sdxl": FIRST_XL_TEXT}


def check_checkpoint(path: Path, found: Found) -> None:
    """Raise WeightsError unless a file is a model that can be edited with: what it is, and what to do."""
    if found.kind == "checkpoint" and found.family in SUPPORTED:
        return
    if found.said.endswith("(model_ema)"):
        raise WeightsError(f"{path}: is {found.said}; use a copy whose weights have their plain names.")
    usual = "use " + ", ".join(FAMILIES[family] for family in SUPPORTED)
    advice = {
        "unet": "give the whole checkpoint, or the folder of all parts",
        **{kind: f"give it as {argument(setting)}, beside a model" for kind, setting in USES.items()},
    }
    if found.kind == "checkpoint" or found.said.startswith("a checkpoint"):
        raise WeightsError(f"{path}: is {found.said}; {usual}.")
    raise WeightsError(f"{path}: is {found.said}, not a model; {advice.get(found.kind, usual)}.")


def autoencoder_tensors(tensors: dict[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return an autoencoder's tensors by diffusers' names, from the original code's."""
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    return convert_ldm_vae_checkpoint(tensors, config)


def open_clip(tensors: dict[str, Tensor], prefix: str, width: int) -> dict[str, Tensor]:
    """Return an OpenCLIP text model's tensors by transformers' names."""
    from types import SimpleNamespace

    from diffusers.loaders.single_file_utils import convert_open_clip_checkpoint

    model = SimpleNamespace(config=SimpleNamespace(hidden_size=width))
    return convert_open_clip_checkpoint(model, tensors, prefix=prefix)


def is_unread(name: str, layers: int) -> bool:
    """Tell whether no tool reads a tensor: losses of the training, positions, layers of a text encoder from `layers`
    on."""
    layer = re.match(r"transformer\.resblocks\.(\d+)\.", name)
    return (
        name.startswith(("loss.", "model_ema."))
        or name.endswith(("position_ids", "logit_scale", "attn_mask"))
        or (layer is not None and int(layer[1]) >= layers)
    )


def _yaml_beside(path: Path) -> dict[str, Any]:
    """The parameters of the original code's configuration that lies beside a checkpoint, if one does."""
    import yaml

    beside = path.with_suffix(".yaml")
    try:
        if not beside.is_file() or beside.stat().st_size > _YAML_LIMIT:
            return {}
        values = yaml.safe_load(beside.read_text(encoding="utf-8"))
        found = values["model"]["params"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError, yaml.YAMLError) as error:
        raise WeightsError(
            f"{beside}: is not a configuration of the original code; mend it, or move it away from {path.name}."
        ) from error
    return found if isinstance(found, dict) else {}
