"""A tiny training that tests run in this process and, through accelerate, in several: FOLDER STEPS [STOP]."""

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from evenreel.training.loop import Training
from evenreel.training.loop_settings import LoopSettings
from evenreel.training.processes import Processes
from evenreel.training.trainee import Trainee

SETTINGS: dict[str, Any] = {
    "learning_rate": 3e-2,
    "warmup": 3,
    "accumulation": 4,
    "decay": 0.25,
    "average": 0.9,
    "optimizer": "muon",
    "dtype": "float32",
    "checkpoint_seconds": 1e9,
}


class Toy(Trainee):
    """Learns to shift; its first layer is frozen."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.frozen = nn.Linear(6, 6).requires_grad_(False)
        self.learned = nn.Sequential(nn.Linear(6, 8), nn.SiLU(), nn.Linear(8, 6))

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        error = (self.learned(self.frozen(x)) - x.roll(1, -1)).square().mean()
        return error, {"error": error.detach()}


def draw(number: int) -> Tensor:
    return torch.randn(5, 6, generator=torch.Generator().manual_seed(number))


def training(folder: Path, steps: int | None, **changes: Any) -> Training:
    settings = LoopSettings(**{"steps": steps, **SETTINGS, **changes})
    return Training("toy", Toy(), settings, folder, processes=Processes("cpu"))


def run(folder: Path, steps: int, stop: int | None = None, **changes: Any) -> list[float]:
    """Losses of the steps that were made."""
    begun = training(folder, steps, **changes)
    losses = []
    for step, figures in begun.run(draw):
        losses.append(figures["loss"])
        if step == stop:
            begun.save()
            break
    return losses


if __name__ == "__main__":
    torch.set_num_threads(1)
    run(Path(sys.argv[1]), int(sys.argv[2]), *map(int, sys.argv[3:]))
