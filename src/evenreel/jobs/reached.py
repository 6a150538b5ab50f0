"""Latents after a step, in a job's folder."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from evenreel.errors import OutputError
from evenreel.files import write_atomically
from evenreel.scratch import placed


@dataclass(frozen=True)
class Reached:
    """Where a run has got to."""

    steps: int
    """Steps that are done."""
    latents: Tensor
    carried: Mapping[str, Tensor]
    """What the session takes along to the next step."""
    last: bool = False
    """Whether no step is left."""


def write(path: Path, reached: Reached) -> None:
    """Keep it in place of an earlier one. Raises: OutputError."""
    tensors = {"latents": reached.latents, **{f"carried.{key}": one for key, one in reached.carried.items()}}
    held = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    try:
        write_atomically(
            path,
            lambda aside: save_file(
                held, aside, {"steps": str(reached.steps), "last": str(int(reached.last))}
            ),
        )
    except SafetensorError as error:  # which is how safetensors speaks of a full disk
        raise OutputError(
            f"{path.parent} cannot keep what was done ({error}); free some space there, and the same command goes on."
        ) from error


def read(path: Path, device: torch.device) -> Reached | None:
    """Return what is kept; None where there is nothing, or something damaged."""
    try:
        with safe_open(path, "pt", device="cpu") as file:
            tensors = {name: placed(file.get_tensor(name), device) for name in file.keys()}  # noqa: SIM118
            told = file.metadata() or {}
            steps, last = int(told["steps"]), told["last"] == "1"
        carried = {name.removeprefix("carried."): one for name, one in tensors.items() if name != "latents"}
        return Reached(steps, tensors["latents"], carried, last)
    except (OSError, SafetensorError, KeyError, ValueError):
        return None
