"""A tiny training that tests run in this process and, through accelerate, in several: FOLDER STEPS [STOP]."""

import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from evenreel.training.accelerated import AcceleratedSettings, AcceleratedTraining

SETTINGS = {"learning_rate": 3e-2, "warmup": 3, "accumulation": 4, "checkpoint_seconds": 1e9}


class Toy(nn.Module):
    """Learns to shift; its first layer is frozen."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.frozen = nn.Linear(6, 6).requires_grad_(False)
        self.learned = nn.Sequential(nn.Linear(6, 8), nn.SiLU(), nn.Linear(8, 6))

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, float]]:
        error = (self.learned(self.frozen(x)) - x.roll(1, -1)).square().mean()
        return error, {"error": error.item()}


def draw(number: int) -> Tensor:
    return torch.randn(5, 6, generator=torch.Generator().manual_seed(number))


def run(folder: Path, steps: int, stop: int | None = None) -> list[float]:
    """Losses of the steps that were made."""
    folder.mkdir(exist_ok=True, parents=True)
    training = AcceleratedTraining(Toy(), AcceleratedSettings(steps=steps, **SETTINGS), folder, device="cpu")
    losses = []
    for step, figures in training.run(draw):
        losses.append(figures["loss"])
        if step == stop:
            training.save()
            break
    return losses


if __name__ == "__main__":
    torch.set_num_threads(1)
    run(Path(sys.argv[1]), int(sys.argv[2]), *map(int, sys.argv[3:]))
