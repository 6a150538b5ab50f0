"""What motion modules are worth: errors of noise predictions with them, without and in the wrong order; samples."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from evenreel import random
from evenreel.backbones import Backbone, load_backbone
from evenreel.backbones.sharing import exclusive
from evenreel.errors import WeightsError
from evenreel.files import write_atomically
from evenreel.motion.folder import load_motion
from evenreel.progress import Progress, silent
from evenreel.settings import GenerateSettings
from evenreel.training.data.encoded import Encoded
from evenreel.training.data.shards import ShardedData
from evenreel.training.motion.draws import ClipDraws
from evenreel.training.motion.settings import MotionTrainingSettings, seen_at
from evenreel.training.motion.trainee import MotionBatch, MotionTrainee
from evenreel.video.strip import film_strip
from evenreel.workflows.editing.generate import generate_clip
from evenreel.workflows.training.motion import NAME, check_epsilon, levels_of

LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Noise levels that are looked at, as shares of the schedule."""
SAMPLES = 4
"""Clips that are made from text."""


@dataclass(frozen=True)
class LevelErrors:
    """Mean squared errors of noise predictions at one noise level."""

    level: float
    base: float
    """Without modules."""
    motion: float
    """With them."""
    shuffled: float
    """With them, frames in random order: if this is no worse, they have learnt nothing of motion."""


def report_motion(
    data: Path,
    out: Path,
    settings: MotionTrainingSettings,
    *,
    batches: int = 8,
    steps: int = 25,
    progress: Progress = silent,
) -> tuple[Path, list[LevelErrors]]:
    """Measure `out`/motion on the clips in `data`, best such as were not trained on, and make clips of their captions.

    Writes `out`/report.md and `out`/samples.png; returns the first, and its figures. Raises: WeightsError, DataError.
    """
    folder = out / NAME
    if not folder.is_dir():
        raise WeightsError(f"{folder}: there are no motion modules; train them first.")
    shards = ShardedData(data)
    backbone = load_backbone(settings.model, device=settings.device, dtype="float32")
    check_epsilon(backbone)
    modules = load_motion(folder).to(backbone.device)
    settings.check_frames(shards.settings.frames, modules.max_frames)
    draw = ClipDraws(
        lambda number: shards.batch(number, settings.clips, seed=settings.seed + 1),
        Encoded(backbone, None, limit=settings.cache_bytes),
        settings,
    )
    with exclusive(backbone.unet):
        trainee = MotionTrainee(backbone.unet, modules, levels_of(backbone)).to(backbone.device).eval()
        try:
            figures = _measured(trainee, backbone, draw, batches, progress)
        finally:
            trainee.detach()
    captions = [str(shards[number].facts["captions"][0]) for number in range(min(SAMPLES, len(shards)))]
    frames = seen_at(shards.settings.frames, min(settings.strides))
    _samples(captions, frames, settings, folder, backbone, out / "samples.png", steps, progress)
    write_atomically(out / "report.md", _text(figures, captions, batches * settings.clips))
    return out / "report.md", figures


@torch.inference_mode()
def _measured(
    trainee: MotionTrainee, backbone: Backbone, draw: ClipDraws, batches: int, progress: Progress
) -> list[LevelErrors]:
    sums = torch.zeros(len(LEVELS), 3)
    timesteps = [int(level * (len(backbone.schedule.alphas_cumprod) - 1)) for level in LEVELS]
    for number in range(batches):
        batch = draw(number)
        for row, timestep in enumerate(timesteps):
            at_level = batch._replace(timesteps=torch.full_like(batch.timesteps, timestep))
            errors = (
                trainee.errors(at_level, with_motion=False),
                trainee.errors(at_level),
                trainee.errors(_shuffled(at_level, number)),
            )
            sums[row] += torch.stack([error.mean() for error in errors]).cpu()
        progress("measure motion", number + 1, batches)
    return [LevelErrors(level, *(row / batches).tolist()) for level, row in zip(LEVELS, sums, strict=True)]


def _shuffled(batch: MotionBatch, number: int) -> MotionBatch:
    generator = random.generator(number)
    order: Tensor = torch.randperm(batch.latents.shape[1], generator=generator)
    return batch._replace(latents=batch.latents[:, order], noise=batch.noise[:, order])


def _samples(
    captions: list[str],
    frames: int,
    settings: MotionTrainingSettings,
    folder: Path,
    backbone: Backbone,
    path: Path,
    steps: int,
    progress: Progress,
) -> None:
    rows, labels = [], []
    for number, caption in enumerate(captions):
        for motion in ("off", str(folder)):
            told = GenerateSettings(
                prompt=caption,
                model=settings.model,
                host="frame",
                frames=frames,
                steps=steps,
                seed=settings.seed + number,
                motion=motion,
                motion_window=max(2, frames),
            )
            rows.append(generate_clip(told, backbone=backbone, progress=progress).frames)
            labels.append(f"{caption} (motion modules {'off' if motion == 'off' else 'on'})")
    film_strip(rows, labels, path)


def _text(figures: list[LevelErrors], captions: list[str], clips: int) -> str:
    lines = [
        "# Motion modules",
        "",
        f"Mean squared error of the noise prediction, {clips} clips at each noise level (0 is clean, 1 is noise).",
        "If it is no higher with frames shuffled than in order, the modules have learnt nothing of motion.",
        "",
        "| noise level | without modules | with them | with them, frames shuffled |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {each.level:g} | {each.base:.4f} | {each.motion:.4f} | {each.shuffled:.4f} |" for each in figures
    ]
    lines += [
        "",
        "`samples.png` shows clips made by the host `frame`, modules off and on, from the same noise:",
        "",
    ]
    lines += [f"- {caption}" for caption in captions]
    return "\n".join(lines) + "\n"
