"""What the mini model reached, beside what it must reach: measured on scenes it was never trained on."""

import json
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from evenreel.backbones import Backbone, load_backbone
from evenreel.diffusion import sampling
from evenreel.errors import OutputError, argument
from evenreel.files import write_atomically
from evenreel.hosts.base import EditJob, create_host
from evenreel.metrics.fidelity import psnr
from evenreel.metrics.judge import Judge
from evenreel.progress import Progress, silent, tracked
from evenreel.training.mini import clip
from evenreel.training.mini.pictures import CLIP_FRAMES, SIZE
from evenreel.types import Frames
from evenreel.workflows.world.edits import WorldEdit, edit_frames, judged
from evenreel.workflows.world.model_card import Figure, write_card
from evenreel.world import ATTRIBUTES, HELD_OUT, Scene, caption, random_scene, render

CANDIDATES = 64
EDIT_HOSTS = ("frame", "vidtome")


def _share(part: str, name: str, hits: Sequence[bool], wanted: float | None) -> Figure:
    return Figure(part=part, name=name, value=100 * sum(hits) / len(hits), wanted=wanted, count=len(hits))


def _scenes(first: int, count: int) -> list[Scene]:
    """Held-out scenes with one object, of which the judge can say what they show."""
    return [random_scene(HELD_OUT + first + i, objects=1) for i in range(count)]


def _pictures(scenes: Sequence[Scene]) -> Frames:
    frames = [
        render(scene, [(7 * i) % CLIP_FRAMES], SIZE, maps=False).frames for i, scene in enumerate(scenes)
    ]
    return torch.cat(frames)


def autoencoder_figures(backbone: Backbone, scenes: Sequence[Scene]) -> Iterator[Figure]:
    """How well pictures survive the way to latents and back (mean of each picture's PSNR)."""
    values = []
    for start in range(0, len(scenes), 32):
        pictures = _pictures(scenes[start : start + 32])
        decoded = backbone.decode(backbone.encode(pictures)).cpu()
        values += [psnr(one[None], other[None]) for one, other in zip(decoded, pictures, strict=True)]
    mean = sum(values) / len(values)
    yield Figure(part="VAE", name="reconstruction PSNR", value=mean, wanted=30, unit="dB", count=len(values))


def clip_figures(folder: Path, scenes: Sequence[Scene]) -> Iterator[Figure]:
    """How often CLIP finds a picture's caption among those of scenes that differ in one or more attributes."""
    model, tokenizer = clip.load(folder)
    hits = []
    for index, scene in enumerate(scenes):
        rng = random.Random(f"evenreel candidates {scene.seed}")
        others: dict[Scene, None] = {}
        while len(others) < CANDIDATES - 1:
            other = clip.near_miss(scene, rng)
            while rng.random() < 0.5:
                other = clip.near_miss(other, rng)
            if other != scene:
                others.setdefault(other)
        texts = [caption(candidate) for candidate in (scene, *others)]
        picture = render(scene, [(7 * index) % CLIP_FRAMES], SIZE, maps=False).frames
        hits.append(clip.similarities(model, tokenizer, picture, texts).argmax().item() == 0)
    yield _share("CLIP", f"right caption among {CANDIDATES}", hits, 90)


def judge_figures(judge: Judge, scenes: Sequence[Scene]) -> Iterator[Figure]:
    """How often the judge names what was rendered."""
    verdicts = [
        v
        for start in range(0, len(scenes), 64)
        for v in judge.verdicts(_pictures(scenes[start : start + 64]))
    ]
    for name in ATTRIBUTES:
        hits = [
            verdict[name] == scene.attribute(name) for verdict, scene in zip(verdicts, scenes, strict=True)
        ]
        yield _share("judge", name, hits, None if name == "texture" else 99)


def text_to_image(
    backbone: Backbone, prompts: list[str], *, steps: int, guidance_scale: float, seed: int
) -> Frames:
    """One picture for each prompt, by DDIM from noise."""
    host = create_host("frame", {"pnp_attn": 0.0, "pnp_conv": 0.0})
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
        batch=16,
    )
    with host.attach(backbone, job) as session:
        noise, timesteps = session.start()
        *_, (_, latents) = sampling.sample(noise, session.predict_noise, backbone.schedule, timesteps)
    return backbone.decode(latents).cpu()


def generation_figures(
    backbone: Backbone, judge: Judge, scenes: Sequence[Scene], progress: Progress = silent
) -> Iterator[Figure]:
    """How often generated pictures show what their captions say."""
    verdicts = []
    for start in tracked(range(0, len(scenes), 16), progress, "text to image"):
        prompts = [caption(scene) for scene in scenes[start : start + 16]]
        pictures = text_to_image(backbone, prompts, steps=25, guidance_scale=4.0, seed=start)
        verdicts += judge.verdicts(pictures)
    for name, wanted in (("colour", 95), ("shape", 90), ("background", 95), ("style", 95), ("texture", None)):
        hits = [
            verdict[name] == scene.attribute(name) for verdict, scene in zip(verdicts, scenes, strict=True)
        ]
        yield _share("text to image", name, hits, wanted)


def editing_figures(
    backbone: Backbone, judge: Judge, first: int, clips: int, host: str, progress: Progress = silent
) -> Iterator[Figure]:
    """How often an edit shows what was asked for, and keeps what was not."""
    asked: dict[str, list[bool]] = {name: [] for name in ATTRIBUTES}
    kept: list[bool] = []
    truth_psnr: list[float] = []
    for number in tracked(range(first, first + clips), progress, f"edit with {host}"):
        edit = WorldEdit.held_out(number)
        edited = edit_frames(backbone, edit.source.frames, edit.settings(host=host))
        there, left = judged(edit, edited, judge)
        for name, hit in there.items():
            asked[name].append(hit)
        kept += left.values()
        truth_psnr.append(psnr(edited, edit.truth.frames))
    part = f"editing, {host}"
    yield _share(part, "asked for is there", [hit for hits in asked.values() for hit in hits], 85)
    yield _share(part, "not asked for is kept", kept, 90)
    for name, hits in asked.items():
        yield _share(part, f"asked for: {name}", hits, None)
    mean = sum(truth_psnr) / len(truth_psnr)
    yield Figure(part=part, name="truth PSNR", value=mean, wanted=None, unit="dB", count=len(truth_psnr))


def report(
    folder: Path,
    *,
    first: int = 0,
    pictures: int = 256,
    generated: int = 128,
    clips: int = 25,
    device: str = "cpu",
    write: bool = True,
    progress: Progress = silent,
) -> list[Figure]:
    """Measure the model in `folder` on held-out scenes `first` and up; `write` puts report.json and README.md there.

    Raises: OutputError when they cannot be written, before anything is measured.
    """
    if write and not os.access(folder, os.W_OK):
        raise OutputError(
            f"{folder}: the report cannot be written there; copy the folder and name it with {argument('output')}."
        )
    backbone = load_backbone(str(folder), device=device)
    judge = Judge.load(folder / "judge.safetensors")
    scenes = _scenes(first, pictures)
    progress("autoencoder, CLIP, judge", 0, None)
    figures = [
        *autoencoder_figures(backbone, scenes),
        *clip_figures(folder, scenes),
        *judge_figures(judge, _scenes(first, 4 * pictures)),
        *generation_figures(backbone, judge, scenes[:generated], progress),
    ]
    for host in EDIT_HOSTS:
        figures += editing_figures(backbone, judge, first + 10_000, clips, host, progress)
    rows = [{**asdict(figure), "interval": figure.interval, "reached": figure.reached} for figure in figures]
    if not write:
        return figures
    record = {
        "held_out_from": first,
        "device": str(backbone.device),
        "torch": torch.__version__,
        "fingerprint": backbone.fingerprint,
        "figures": rows,
    }
    write_atomically(folder / "report.json", json.dumps(record, indent=2) + "\n")
    write_card(folder, figures, first=first)
    return figures
