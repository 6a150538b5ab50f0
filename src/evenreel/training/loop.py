"""The loop that every part is trained by: seeded by step, averaged, checkpointed, resumable to the same weights.

Batch and noise of step k are drawn from a generator seeded with (part, k); so the state of a run is the weights, the
optimizer's moments, the running average and k, and nothing else.
"""

import json
import math
import os
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

Loss = Callable[[torch.Generator], tuple[Tensor, dict[str, float]]]
"""Draws a batch with the generator; returns the loss and figures for the log."""


@dataclass(frozen=True, kw_only=True)
class LoopSettings:
    """How a part is trained."""

    steps: int
    learning_rate: float = 1e-3
    warmup: int = 200
    weight_decay: float = 0.01
    average: float = 0.999
    """Decay of the running average of the weights (the average is what is kept)."""
    gradient_clip: float = 1.0
    """Largest gradient norm."""
    checkpoint_seconds: float = 120.0
    seed: int = 0

    def rate(self, step: int) -> float:
        """Learning rate: linear warm-up, then half a cosine down to a hundredth."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.learning_rate * (0.01 + 0.99 * (1 + math.cos(math.pi * min(1.0, done))) / 2)


def write_aside(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Save tensors so that `path` is at every moment either the old file or the whole new one."""
    aside = path.with_suffix(f".{os.getpid()}.partial")
    try:
        save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, aside, metadata)
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def recorded_step(path: Path) -> int:
    """How far the training in a state file has come."""
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["evenreel"])["step"]


class Optimizer:
    """Muon for matrices and kernels, AdamW for everything else (embeddings, norms, biases, first and last layers).

    Muon's updates are scaled to AdamW's size, so one learning rate serves both. It takes matrices only: a kernel is
    shown to it as (out, in x height x width), sharing memory with the model's own tensor.
    """

    OUTSIDE = ("embedding", "embed", "conv_in", "conv_out", "heads", "projection")
    """Layers that are no map between hidden spaces, named by a part of their path."""

    def __init__(self, parameters: dict[str, nn.Parameter], settings: LoopSettings) -> None:
        matrices = {
            k: p for k, p in parameters.items() if p.ndim >= 2 and not any(name in k for name in self.OUTSIDE)
        }
        self._kernels = {
            key: (value, nn.Parameter(value.detach().flatten(1))) for key, value in matrices.items()
        }
        self._others = {key: value for key, value in parameters.items() if key not in matrices}
        decay = settings.weight_decay
        self._adam = torch.optim.AdamW(
            self._others.values(), betas=(0.9, 0.99), weight_decay=decay, fused=True
        )
        self._muon = torch.optim.Muon(
            [flat for _, flat in self._kernels.values()],
            weight_decay=decay,
            momentum=0.95,
            adjust_lr_fn="match_rms_adamw",
        )

    def step(self, rate: float) -> None:
        """Update the parameters from their gradients."""
        for value, flat in self._kernels.values():
            flat.grad = value.grad.flatten(1) if value.grad is not None else None
        for optimizer in (self._adam, self._muon):
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()

    def _slots(self) -> Iterator[tuple[str, dict[str, Tensor]]]:
        for key, value in self._others.items():
            yield key, self._adam.state[value]
        for key, (_, flat) in self._kernels.items():
            yield key, self._muon.state[flat]

    def state(self) -> dict[str, Tensor]:
        """Moments by "parameter/moment"."""
        return {f"{key}/{moment}": tensor for key, slot in self._slots() for moment, tensor in slot.items()}

    def load(self, state: dict[str, Tensor]) -> None:
        """Take moments over from `state()`."""
        slots = dict(self._slots())
        for name, tensor in state.items():
            key, moment = name.rsplit("/", 1)
            slots[key][moment] = tensor


class Training:
    """A model, its optimizer and its running average, on their way to `settings.steps`."""

    def __init__(self, name: str, model: nn.Module, settings: LoopSettings, folder: Path) -> None:
        self.name, self.model, self.settings, self.folder = name, model, settings, folder
        self.parameters = {key: value for key, value in model.named_parameters() if value.requires_grad}
        self.averaged = {key: value.detach().clone() for key, value in self.parameters.items()}
        self.optimizer = Optimizer(self.parameters, settings)
        self.step = 0
        self.seconds = 0.0
        self.stretched: list[tuple[int, int]] = []
        """(step, steps) wherever a finished or begun run was given another number of steps, and so another rate."""
        self.path = folder / f"{name}.state.safetensors"
        folder.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            self._load()

    def _state(self) -> dict[str, Tensor]:
        tensors = {f"model.{key}": value for key, value in self.parameters.items()}
        tensors |= {f"average.{key}": value for key, value in self.averaged.items()}
        return tensors | {f"optimizer.{key}": value for key, value in self.optimizer.state().items()}

    def save(self) -> None:
        """Write the whole state."""
        record = {
            "step": self.step,
            "seconds": self.seconds,
            "settings": asdict(self.settings),
            "stretched": self.stretched,
        }
        write_aside(self._state(), self.path, {"evenreel": json.dumps(record)})

    def _load(self) -> None:
        with safe_open(self.path, "pt") as file:
            record = json.loads(file.metadata()["evenreel"])
            self.step, self.seconds = record["step"], record["seconds"]
            self.stretched = [tuple(pair) for pair in record.get("stretched", ())]
            if record["settings"]["steps"] != self.settings.steps:
                self.stretched.append((self.step, self.settings.steps))
            with torch.no_grad():
                for key, value in self.parameters.items():
                    value.copy_(file.get_tensor(f"model.{key}"))
                    self.averaged[key].copy_(file.get_tensor(f"average.{key}"))
            prefix = "optimizer."
            self.optimizer.load(
                {
                    key.removeprefix(prefix): file.get_tensor(key)
                    for key in list(file.keys())
                    if key.startswith(prefix)
                }
            )

    def use_average(self) -> nn.Module:
        """The model with the averaged weights put in: the end of training."""
        with torch.no_grad():
            for key, value in self.parameters.items():
                value.copy_(self.averaged[key])
        return self.model.eval()

    def run(self, loss: Loss) -> Iterator[tuple[int, dict[str, float]]]:
        """Train to the last step; yields (steps done, figures) after each one.

        Raises FloatingPointError when the loss is not finite; the last checkpoint is kept.
        """
        self.model.train()
        saved = started = time.monotonic()
        before = self.seconds
        with (self.folder / f"{self.name}.log.jsonl").open("a") as log:
            while self.step < self.settings.steps:
                generator = torch.Generator().manual_seed(
                    zlib.crc32(f"{self.settings.seed} {self.name} {self.step}".encode())
                )
                value, figures = loss(generator)
                if not torch.isfinite(value):
                    raise FloatingPointError(
                        f"{self.name}: loss {value.item()} at step {self.step}; {self.path} is the last good state."
                    )
                self.model.zero_grad(set_to_none=True)
                value.backward()
                nn.utils.clip_grad_norm_(self.parameters.values(), self.settings.gradient_clip)
                self.optimizer.step(self.settings.rate(self.step))
                self.step += 1
                decay = min(self.settings.average, (1 + self.step) / (10 + self.step))
                torch._foreach_lerp_(
                    list(self.averaged.values()), [p.detach() for p in self.parameters.values()], 1 - decay
                )
                now = time.monotonic()
                self.seconds = before + now - started
                figures = {"loss": value.item(), **figures}
                if self.step % 50 == 0 or self.step == self.settings.steps:
                    log.write(
                        json.dumps({"step": self.step, "seconds": round(self.seconds, 1), **figures}) + "\n"
                    )
                    log.flush()
                if now - saved > self.settings.checkpoint_seconds or self.step == self.settings.steps:
                    self.save()
                    saved = now
                yield self.step, figures
