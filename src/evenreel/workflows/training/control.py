"""Training a ControlNet on shards, from its settings to a folder; stopped at any moment, it goes on where it was."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from evenreel.backbones import Backbone, load_backbone
from evenreel.backbones.control import load_control
from evenreel.backbones.sharing import exclusive
from evenreel.errors import SettingsError, WeightsError, argument
from evenreel.files import make_folder
from evenreel.progress import Progress, silent
from evenreel.training.control.draws import ControlDraws
from evenreel.training.control.settings import ControlTrainingSettings
from evenreel.training.control.trainee import ControlTrainee, begun
from evenreel.training.data.encoded import Encoded
from evenreel.training.data.shards import ShardedData
from evenreel.training.loop import Training
from evenreel.training.processes import Processes
from evenreel.workflows.training.going_on import check_fits, check_same
from evenreel.workflows.training.motion import check_epsilon, levels_of

NAME = "control"
LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Noise levels that a report looks at, as shares of the schedule."""


@dataclass(frozen=True)
class LevelErrors:
    """Mean squared errors of noise predictions at one noise level."""

    level: float
    base: float
    """Without the ControlNet."""
    control: float
    """With it."""
    other: float
    """With it, each picture with the map of another: if this is no worse, the map counts for nothing."""


def train_control(
    data: Path, out: Path, settings: ControlTrainingSettings, *, progress: Progress = silent
) -> Path:
    """Train on the shards in `data`; states, logs and at the end the folder `out`/control, whose path is returned.

    Started by `accelerate launch`, all processes share the work. Raises: SettingsError, DataError, WeightsError,
    OutputError; FloatingPointError when the loss is not finite, with the last good state kept.
    """
    make_folder(out)
    shards = _shards(data, settings)
    backbone = load_backbone(settings.model, device=settings.device, dtype="float32")
    check_fits(shards, backbone)
    check_epsilon(backbone, "ControlNets")
    processes = Processes(settings.device)
    harmless = ("device", "cache_bytes")
    check_same(out, NAME, settings, shards, harmless=harmless, write=processes.is_main)
    with exclusive(backbone.unet, training=True):
        net = _net(backbone, settings)
        trainee = ControlTrainee(backbone.unet, net, levels_of(backbone))
        training = Training(NAME, trainee, settings.loop, out, processes=processes, seed=settings.seed)
        progress("train control", training.step, training.length)
        for step, figures in training.run(_draws(shards, backbone, settings)):
            told = ", ".join(f"{name} {figures[name]:.4f}" for name in ("loss", "mse") if name in figures)
            progress(f"train control: {told}" if told else "train control", step, training.length)
        if processes.is_main:
            training.trained()
            net.save_pretrained(out / NAME, safe_serialization=True)
    return out / NAME


def report_control(
    data: Path,
    out: Path,
    settings: ControlTrainingSettings,
    *,
    batches: int = 8,
    progress: Progress = silent,
) -> list[LevelErrors]:
    """Measure `out`/control on the pictures in `data`, best such as it was not trained on.

    Raises: WeightsError, DataError; SettingsError for fewer than two pictures in a micro-batch.
    """
    folder = out / NAME
    if not folder.is_dir():
        raise WeightsError(f"{folder}: there is no ControlNet; train it first.")
    if settings.pictures < 2:
        raise SettingsError(
            f"a report compares pictures of a micro-batch; give {argument('pictures')} 2 or more."
        )
    shards = _shards(data, settings)
    backbone = load_backbone(settings.model, device=settings.device, dtype="float32")
    check_fits(shards, backbone)
    check_epsilon(backbone, "ControlNets")
    net = load_control(str(folder), backbone).net
    with exclusive(backbone.unet), torch.no_grad():
        trainee = ControlTrainee(backbone.unet, net, levels_of(backbone)).to(backbone.device).eval()
        draw = _draws(shards, backbone, settings)
        sums = torch.zeros(len(LEVELS), 3)
        for number in range(batches):
            batch = draw(number)
            other = batch._replace(maps=batch.maps.roll(1, 0))
            for row, level in enumerate(LEVELS):
                timesteps = torch.full_like(batch.timesteps, round(level * (len(trainee.alphas_cumprod) - 1)))
                one, changed = batch._replace(timesteps=timesteps), other._replace(timesteps=timesteps)
                errors = (
                    trainee.errors(one, with_control=False),
                    trainee.errors(one),
                    trainee.errors(changed),
                )
                sums[row] += torch.stack([each.mean().cpu() for each in errors]) / batches
            progress("measure control", number + 1, batches)
        return [LevelErrors(level, *values) for level, values in zip(LEVELS, sums.tolist(), strict=True)]


def _shards(data: Path, settings: ControlTrainingSettings) -> ShardedData:
    """The data with its maps; edges are found where it has none."""
    shards = ShardedData(data)
    if settings.kind == "canny" and "canny" not in shards.settings.maps:
        return shards
    return ShardedData(data, maps=(settings.kind,))


def _net(backbone: Backbone, settings: ControlTrainingSettings) -> Any:
    """One to go on from, or a copy of the UNet's way down whose outputs are zero."""
    if settings.start is not None:
        return load_control(settings.start, backbone).net
    torch.manual_seed(settings.seed)
    return begun(backbone.unet)


def _draws(shards: ShardedData, backbone: Backbone, settings: ControlTrainingSettings) -> ControlDraws:
    encoded = Encoded(backbone, None, limit=settings.cache_bytes)
    return ControlDraws(
        lambda number: shards.batch(number, settings.pictures, seed=settings.seed), encoded, settings
    )
