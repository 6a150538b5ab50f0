"""Weights into diffusers' and transformers' classes: safetensors only, and whatever is wrong is one sentence."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from evenreel.backbones.folder import ModelFolder
from evenreel.backbones.sharing import loading
from evenreel.errors import WeightsError


@torch.inference_mode(False)  # weights that are made in inference mode could never take part in a gradient
def load_part(
    model: ModelFolder, part: str, model_class: Any, device: torch.device, dtype: torch.dtype, **options: Any
) -> Any:
    """One part of a model, for inference; `options` go to its class.

    Raises: WeightsError when its weights are not whole.
    """
    where = model.path / part
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
            f"{where}: {len(faults)} weights are missing or of the wrong size; fetch the model again."
        )
    if not all(bool(torch.isfinite(weight).all()) for weight in loaded.parameters()):
        raise WeightsError(f"{where}: contains NaN or infinite weights; fetch the model again.")
    return loaded.to(device).eval().requires_grad_(False)


@contextmanager
def one_sentence(where: Path) -> Iterator[None]:
    """Turn what the libraries raise on damaged files into a WeightsError."""
    try:
        yield
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".:")
        raise WeightsError(f"{where}: cannot be loaded ({reason[:200]}).") from error


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
