"""The loop that adapters are trained by: AdamW through accelerate, on one or several processes, resumable bit for bit.

A step is the mean gradient of `accumulation` micro-batches, whoever computes them. Micro-batches are numbered through
the whole run, and each follows from its number; process r of n takes those with r modulo n. So the state of a run is
the trained weights, the optimizer's moments and the step, and two processes follow one up to rounding.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from safetensors import safe_open
from torch import Tensor, nn

from evenreel.errors import SettingsError
from evenreel.training.loop import write_aside

Figures = dict[str, float]
"""What a step reports, by name."""
Draw = Callable[[int], object]
"""The micro-batch of a number: always the same one."""


@dataclass(frozen=True, kw_only=True)
class AcceleratedSettings:
    """How an adapter is trained; the defaults are those of the paper (arXiv:2501.04606, section 4.1)."""

    steps: int
    """Optimizer steps."""
    learning_rate: float = 3e-5
    warmup: int = 500
    """Steps over which the learning rate rises linearly from zero."""
    final_rate: float = 1.0
    """Share of the learning rate that is left at the last step, to which it falls linearly; 1: it stays."""
    weight_decay: float = 0.01
    accumulation: int = 8
    """Micro-batches of a step, over all processes together."""
    gradient_clip: float = 1.0
    """Largest gradient norm."""
    precision: str = "no"
    """`no` (float32), `bf16` or `fp16` (needs a GPU)."""
    checkpoint_seconds: float = 120.0

    def __post_init__(self) -> None:
        for name in ("steps", "accumulation"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if self.precision not in ("no", "bf16", "fp16"):
            raise SettingsError(f"precision must be no, bf16 or fp16, got {self.precision!r}.")
        if not 0 <= self.final_rate <= 1:
            raise SettingsError(f"final_rate must be from 0 to 1, got {self.final_rate}.")
        if not 0 < self.learning_rate <= 1 or self.warmup < 0 or self.gradient_clip <= 0:
            raise SettingsError(
                "learning_rate must be above 0 and at most 1, warmup at least 0, gradient_clip above 0; "
                f"got {self.learning_rate}, {self.warmup}, {self.gradient_clip}."
            )

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0: a warm-up that really warms up."""
        fallen = 1 - (1 - self.final_rate) * step / self.steps
        return self.learning_rate * fallen * min(1.0, (step + 1) / max(1, self.warmup))


class AcceleratedTraining:
    """A module on its way to `settings.steps`; its forward pass takes a micro-batch and returns (loss, figures).

    Only parameters that require gradients are trained, averaged over processes and saved. A state found in `folder` is
    taken up. Run by `accelerate launch` on several processes, everything here happens on all of them, but only the
    first writes.
    """

    def __init__(
        self,
        module: nn.Module,
        settings: AcceleratedSettings,
        folder: Path,
        *,
        device: str = "auto",
        unit: int = 1,
    ) -> None:
        """`unit`: steps that belong together, through which the module remembers something; states lie between them."""
        if settings.steps % unit:
            raise SettingsError(f"steps must be a multiple of {unit}, got {settings.steps}.")
        self.settings, self.folder, self.unit = settings, folder, unit
        self.accelerator = Accelerator(mixed_precision=settings.precision, cpu=device == "cpu")
        if settings.accumulation % self.accelerator.num_processes:
            raise SettingsError(
                f"accumulation must be a multiple of the {self.accelerator.num_processes} processes, "
                f"got {settings.accumulation}."
            )
        self.module = module
        self.parameters = {name: value for name, value in module.named_parameters() if value.requires_grad}
        self._optimizer = torch.optim.AdamW(
            self.parameters.values(), lr=0.0, betas=(0.9, 0.999), weight_decay=settings.weight_decay
        )
        self.step, self.seconds = 0, 0.0
        self.path = folder / "state.safetensors"
        prepared, self.optimizer = self.accelerator.prepare(module, self._optimizer)
        self.forward: nn.Module = prepared
        if self.path.exists():
            self._load()

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.accelerator.is_main_process

    def save(self) -> None:
        """Write the whole state, so that a kill at any moment leaves the old or the new one."""
        if not self.is_main:
            return
        tensors = {f"model.{name}": value for name, value in self.parameters.items()}
        for name, value in self.parameters.items():
            for moment, tensor in self._optimizer.state.get(value, {}).items():
                tensors[f"optimizer.{name}/{moment}"] = tensor
        scaler = self.accelerator.scaler
        record = {
            "step": self.step,
            "seconds": self.seconds,
            "processes": self.accelerator.num_processes,
            "settings": asdict(self.settings),
            "scaler": scaler.state_dict() if scaler is not None else None,
        }
        write_aside(tensors, self.path, {"evenreel": json.dumps(record)})

    def _load(self) -> None:
        with safe_open(self.path, "pt") as file:
            record = json.loads(file.metadata()["evenreel"])
            names = set(file.keys())
            if missing := [name for name in self.parameters if f"model.{name}" not in names]:
                raise SettingsError(
                    f"{self.path} is the state of another training (it lacks {missing[0]}); choose another --out."
                )
            self.step, self.seconds = record["step"], record["seconds"]
            if self.accelerator.scaler is not None and record["scaler"]:
                self.accelerator.scaler.load_state_dict(record["scaler"])
            with torch.no_grad():
                for name, value in self.parameters.items():
                    value.copy_(file.get_tensor(f"model.{name}"))
            for name in names:
                if name.startswith("optimizer."):
                    key, moment = name.removeprefix("optimizer.").rsplit("/", 1)
                    parameter = self.parameters[key]
                    tensor = file.get_tensor(name)
                    # AdamW counts its steps on the CPU.
                    self._optimizer.state[parameter][moment] = (
                        tensor if moment == "step" else tensor.to(parameter.device)
                    )

    def run(self, draw: Draw) -> Iterator[tuple[int, Figures]]:
        """Train to the last step; yields (steps done, mean figures of the step) after each one, on every process.

        Raises FloatingPointError when the loss or the gradient is not finite; the last good state is kept.
        """
        accelerator, settings = self.accelerator, self.settings
        rank, processes = accelerator.process_index, accelerator.num_processes
        self.module.train()
        started, before = time.monotonic(), self.seconds
        saved = started
        while self.step < settings.steps:
            mine = range(rank, settings.accumulation, processes)
            total: dict[str, Tensor] = {}
            for index, micro in enumerate(mine):
                batch = draw(self.step * settings.accumulation + micro)
                last = index == len(mine) - 1
                with nullcontext() if last else accelerator.no_sync(self.forward):
                    loss, figures = self.forward(batch)
                    accelerator.backward(loss / len(mine))
                for name, value in {"loss": loss.detach(), **figures}.items():
                    value = torch.as_tensor(value, dtype=torch.float32, device=accelerator.device)
                    total[name] = total.get(name, torch.zeros_like(value)) + value / len(mine)
            figures = self._update(total)
            now = time.monotonic()
            self.seconds = before + now - started
            due = now - saved > settings.checkpoint_seconds or self.step == settings.steps
            if self.step % self.unit == 0 and self._agreed(due):
                self.save()
                saved = now
            yield self.step, figures

    def _update(self, total: dict[str, Tensor]) -> Figures:
        """One optimizer step from the gradients that are there."""
        accelerator, settings = self.accelerator, self.settings
        names = sorted(total)
        means = accelerator.reduce(torch.stack([total[name] for name in names]), reduction="mean")
        figures = dict(zip(names, means.tolist(), strict=True))
        norm = accelerator.clip_grad_norm_(list(self.parameters.values()), settings.gradient_clip)
        figures["gradient_norm"] = float(norm)
        # With fp16 the scaler skips steps whose gradient overflows, which is no fault; the loss must be finite always.
        finite = torch.isfinite(means).all() and (
            accelerator.scaler is not None or torch.isfinite(torch.as_tensor(norm))
        )
        if not finite:
            raise FloatingPointError(
                f"the loss is {figures['loss']}, the gradient's norm {figures['gradient_norm']} at step {self.step}; "
                f"{self.path if self.path.exists() else 'nothing'} is the last good state."
            )
        for group in self.optimizer.param_groups:
            group["lr"] = settings.rate(self.step)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return figures

    def _agreed(self, due: bool) -> bool:
        """The first process decides when to save, as clocks differ."""
        if self.accelerator.num_processes == 1:
            return due
        return broadcast_object_list([due])[0]
