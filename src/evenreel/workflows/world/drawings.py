"""What a model of the world draws from text alone: whether it can be recognised, and whether it is drawn right."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from evenreel.backbones import Backbone
from evenreel.diffusion import sampling
from evenreel.files import unwritable
from evenreel.hosts.base import EditJob, create_host
from evenreel.metrics.judge import Judge
from evenreel.metrics.outline import outline_iou
from evenreel.metrics.segmenter import packaged_segmenter
from evenreel.progress import Progress, silent, tracked
from evenreel.types import Frames
from evenreel.video import film_strip, from_model
from evenreel.workflows.world.model_card import Figure, share
from evenreel.world import HELD_OUT, Scene, caption, random_scene
from evenreel.world.scene import SHAPES

STEPS = 25
GUIDANCE = 4.0
TOGETHER = 16
"""Pictures that are drawn together."""
WANTED = {"shape": 98.0, "texture": 96.0, "colour": 99.5, "background": 99.5, "style": 99.5}
"""Percent of drawings in which the judge should see what was asked for."""
WANTED_OUTLINE = {"median": (0.5, 93.0), "10th percentile": (0.1, 85.0)}
"""Quantiles of the outlines' IoU, and what they should be in percent."""
ON_SHEET, COLUMNS = 64, 8
"""Drawings on a contact sheet, and how many of them stand beside each other."""


def text_to_image(
    backbone: Backbone, prompts: list[str], *, steps: int, guidance_scale: float, seed: int
) -> Frames:
    """Return one picture for each prompt, by DDIM from noise."""
    host = create_host("frame", {"pnp_attn": 0.0, "pnp_conv": 0.0, "p2p_cross": 0.0})
    timesteps = backbone.schedule.timesteps(steps)
    empty = backbone.embed([""]).expand(len(prompts), -1, -1)
    side = backbone.native_size // 8
    job = EditJob(
        shape=(len(prompts), 4, side, side),
        timesteps=timesteps,
        prompt_embeds=backbone.embed(prompts),
        negative_prompt_embeds=empty,
        source_prompt_embeds=empty,
        guidance_scale=guidance_scale,
        seed=seed,
        batch=TOGETHER,
    )
    with host.attach(backbone, job) as session:
        noise, timesteps = session.start()
        *_, (_, latents) = sampling.sample(noise, session.predict_noise, backbone.schedule, timesteps)
    return backbone.decode(latents).cpu()


def drawings(
    backbone: Backbone, scenes: Sequence[Scene], progress: Progress = silent, what: str = "text to image"
) -> Frames:
    """Return one picture of each scene's caption."""
    found = []
    for start in tracked(range(0, len(scenes), TOGETHER), progress, what):
        prompts = [caption(scene) for scene in scenes[start : start + TOGETHER]]
        found.append(text_to_image(backbone, prompts, steps=STEPS, guidance_scale=GUIDANCE, seed=start))
    return torch.cat(found)


def outline_ious(pictures: Frames, scenes: Sequence[Scene]) -> Float[Tensor, " pictures"]:
    """Return the IoU of each picture's object with the best fit of the shape that its scene has; see `outline_iou`."""
    masks = packaged_segmenter().masks(pictures)
    found = torch.zeros(len(pictures))
    for shape in dict.fromkeys(scene.main.shape for scene in scenes):
        these = torch.tensor([scene.main.shape == shape for scene in scenes])
        found[these] = outline_iou(masks[these], shape)
    return found


def generation_figures(
    backbone: Backbone, judge: Judge, scenes: Sequence[Scene], progress: Progress = silent
) -> Iterator[Figure]:
    """Yield how often drawings show what their captions say, and how near their outlines come to the true ones."""
    pictures = drawings(backbone, scenes, progress)
    verdicts = [verdict for part in pictures.split(64) for verdict in judge.verdicts(part)]
    for name, wanted in WANTED.items():
        hits = [
            verdict[name] == scene.attribute(name) for verdict, scene in zip(verdicts, scenes, strict=True)
        ]
        yield share("text to image", name, hits, wanted)
    ious = outline_ious(pictures, scenes)
    for name, (quantile, wanted) in WANTED_OUTLINE.items():
        value = 100 * float(ious.quantile(quantile))
        yield Figure(
            part="text to image",
            name=f"outline, {name}",
            value=value,
            wanted=wanted,
            unit="% IoU",
            count=len(ious),
        )


def contact_sheets(
    backbone: Backbone, folder: Path, *, first: int = 0, count: int = ON_SHEET, progress: Progress = silent
) -> list[Path]:
    """Draw `count` pictures of each shape and save them as `folder`/SHAPE.png, the worst outlines first.

    The captions are those of held-out scenes from `first` + 20,000 on, with the shape put in. Above each row stand the
    IoUs of its outlines. Returns the files. Raises: OutputError where they cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error
    files = []
    for shape in SHAPES:
        seeds = range(HELD_OUT + first + 20_000, HELD_OUT + first + 20_000 + count)
        scenes = [random_scene(seed, objects=1).edited(shape=shape) for seed in seeds]
        pictures = drawings(backbone, scenes, progress, f"draw {shape}")
        ious = outline_ious(pictures, scenes)
        order = ious.argsort()
        pixels = from_model(pictures[order], (pictures.shape[3], pictures.shape[2]))
        labels = [
            f"{shape}: " + "  ".join(f"{iou:.2f}" for iou in row.tolist())
            for row in ious[order].split(COLUMNS)
        ]
        path = folder / f"{shape}.png"
        files.append(film_strip(list(pixels.split(COLUMNS)), labels, path, columns=COLUMNS))
    return files
