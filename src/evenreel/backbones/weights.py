"""Weights into diffusers' and transformers' classes: safetensors only, and whatever is wrong is one sentence."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from evenreel.backbones import safetensors_file
from evenreel.backbones.folder import ModelFolder
from evenreel.backbones.sharing import loading
from evenreel.errors import WeightsError
from evenreel.installed import suspected


class Part(ABC):
    """A network of a model, wherever its weights lie."""

    @property
    @abstractmethod
    def where(self) -> Path:
        """The folder or file, for messages."""

    @property
    @abstractmethod
    def config(self) -> Mapping[str, Any]:
        """Its configuration, in diffusers' or transformers' form."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Hash of its weights."""

    @abstractmethod
    def state_dict(self) -> dict[str, Tensor]:
        """Read its tensors, by their names in its class. Raises: WeightsError."""

    @abstractmethod
    def load(self, model_class: Any, device: torch.device, dtype: torch.dtype) -> Any:
        """Load the network, for inference. Raises: WeightsError."""


@dataclass(frozen=True)
class FolderPart(Part):
    """A network that lies in a folder of its own."""

    folder: ModelFolder
    part: str

    @property
    def where(self) -> Path:
        """The folder of this part."""
        return self.folder.path / self.part

    @property
    def config(self) -> Mapping[str, Any]:
        """Its config.json."""
        return self.folder.config(self.part)

    @property
    def fingerprint(self) -> str:
        """Hash of its files of weights."""
        files = self.folder.weight_files(self.part)
        return hashlib.sha256("".join(map(safetensors_file.sha256, files)).encode()).hexdigest()

    def state_dict(self) -> dict[str, Tensor]:
        """Read its tensors, by the names that they have in its files."""
        found: dict[str, Tensor] = {}
        for file in self.folder.weight_files(self.part):
            found |= safetensors_file.load(file)
        return found

    def load(self, model_class: Any, device: torch.device, dtype: torch.dtype) -> Any:
        """Load the network, for inference. Raises: WeightsError."""
        return load_part(self.folder, self.part, model_class, device, dtype)


def content_fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """Hash names, shapes, types and numbers, wherever and in whatever order they are stored."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        total.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        # a number of no axes has no bytes to view
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data if tensor.numel() else b"")
    return total.hexdigest()


@torch.inference_mode(False)  # weights that are made in inference mode could never take part in a gradient
def load_part(
    model: ModelFolder, part: str, model_class: Any, device: torch.device, dtype: torch.dtype, **options: Any
) -> Any:
    """Load one part of a model, for inference; `options` go to its class.

    Raises: WeightsError when its weights are not whole.
    """
    where = model.path / part
    _check_numbers(model, part, model_class)
    with loading, one_sentence(where), _quiet():
        loaded, report = model_class.from_pretrained(
            where,
            use_safetensors=True,
            variant=model.variant(part),
            local_files_only=True,
            output_loading_info=True,
            dtype=dtype,
            **options,
        )
    if faults := [*report["missing_keys"], *report["mismatched_keys"]]:
        raise WeightsError(
            suspected(
                f"{where}: {len(faults)} weights are missing or of the wrong size; fetch the model again."
            )
        )
    if not all(bool(torch.isfinite(weight).all()) for weight in loaded.parameters()):
        raise WeightsError(f"{where}: contains NaN or infinite weights; fetch the model again.")
    return loaded.to(device).eval().requires_grad_(False)


def _check_numbers(model: ModelFolder, part: str, model_class: Any) -> None:
    """Refuse a configuration that describes far more than there is: the libraries would make it up, and fill memory."""
    where = model.path / part
    with loading, one_sentence(where):
        config = model.config(part)
        if "vision" in model_class.__name__.lower():
            config = config.get(
                "vision_config", config
            )  # a whole CLIP's, of which the vision tower alone is loaded
        described = _described(model_class, json.dumps(config, sort_keys=True))
    stored = sum(safetensors_file.read_header(file).numbers() for file in model.weight_files(part))
    if described > 2 * stored:
        raise WeightsError(
            f"{where}: its configuration describes {described} numbers, and its files hold {stored}; "
            "fetch the model again."
        )


@lru_cache(maxsize=64)
def _described(model_class: Any, config: str) -> int:
    """How many numbers a network of a configuration has. Kept, since building one takes longer than loading it."""
    return sum(weight.numel() for weight in _empty(model_class, json.loads(config)).parameters())


@torch.inference_mode(False)
def into_class(
    model_class: Any,
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    where: str,
    device: torch.device,
    dtype: torch.dtype,
) -> Any:
    """Put a network of a class of diffusers or transformers together from its configuration and its tensors, for
    inference.

    Raises: WeightsError unless they belong together, with `where` to say whose they are.
    """
    with loading, one_sentence(where):
        model = _empty(model_class, config)
        # transformers 5.6 took this level away, but not from models with a projection
        tower = getattr(model, "text_model", model)
        inner = model if hasattr(model, "text_projection") else tower
        wanted = inner.state_dict()
        faults = [name for name in wanted if name not in tensors or wanted[name].shape != tensors[name].shape]
        if faults or len(tensors) != len(wanted):
            strange = faults or sorted(tensors.keys() - wanted.keys())
            raise WeightsError(
                f"{where} has weights that are missing, left over or of the wrong size ({strange[0]}"
                f"{f' and {len(strange) - 1} more' if len(strange) > 1 else ''}); fetch the file again."
            )
        # read as they are needed, so that a checkpoint in single precision is never twice in memory
        inner.load_state_dict({name: tensors[name].to(dtype) for name in wanted}, assign=True)
        if hasattr(tower, "embeddings"):  # positions are counted, not stored
            count = tower.config.max_position_embeddings
            tower.embeddings.position_ids = torch.arange(count).expand(1, -1)
    if not all(bool(torch.isfinite(weight).all()) for weight in model.parameters()):
        raise WeightsError(f"{where} contains NaN or infinite weights; fetch the file again.")
    return model.to(device).eval().requires_grad_(False)


def _empty(model_class: Any, config: Mapping[str, Any]) -> Any:
    """A network without numbers."""
    with torch.device("meta"):
        if hasattr(model_class, "from_config") and hasattr(model_class, "load_config"):  # diffusers
            return model_class.from_config(dict(config))
        return model_class(model_class.config_class(**config))


@contextmanager
def one_sentence(where: Path | str) -> Iterator[None]:
    """Turn what the libraries raise on damaged files into a WeightsError."""
    try:
        yield
    except WeightsError:
        raise
    except (
        OSError,
        RuntimeError,
        ValueError,
        LookupError,
        ArithmeticError,
        TypeError,
        AttributeError,
    ) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".:")
        raise WeightsError(suspected(f"{where}: cannot be loaded ({reason[:200]}).")) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars and tables of transformers: evenreel shows its own progress, and checks what was loaded."""
    from transformers.utils import logging

    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()
