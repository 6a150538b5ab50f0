"""The network calls that all hosts make: noise of some frames, guided, with a branch of the source beside it."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch

from evenreel.backbones.base import Backbone
from evenreel.diffusion import guidance
from evenreel.hosts.base import EditJob
from evenreel.hosts.feature_reuse import Branch
from evenreel.hosts.motion_windows import predict_fused
from evenreel.scratch import room_like
from evenreel.types import Latents, PromptRows


def predict_guided(
    backbone: Backbone,
    job: EditJob,
    latents: Latents,
    frames: Sequence[int],
    timestep: int,
    *,
    with_source: bool,
    source_pred: Latents | None = None,
) -> Latents:
    """Predict noise for some frames in one network call, guided; `latents` are those frames' own.

    Branches are stacked in the order (source, uncond, cond). Without guidance the uncond branch is left out. The
    source's is left alone by the job's control: it was inverted without. Motion modules see these frames as one clip.
    Where the job is `relative`, the source's prediction is taken away from the guided one: that of the source's branch,
    or `source_pred`, which is known already.
    """
    assert with_source or source_pred is not None or not job.relative, (
        "relative to a source that is not there"
    )
    guidance_scale = job.guidance_at(timestep)
    latents = latents.to(backbone.device)  # those of a long clip lie elsewhere
    parts, embeds = [latents], [_select(job.prompt_embeds, frames, backbone.device)]
    names: list[Branch] = ["cond"]
    if guidance_scale != 1:
        names.insert(0, "uncond")
        parts.insert(0, latents)
        negative = job.null_embeds.get(timestep, job.negative_prompt_embeds)
        embeds.insert(0, _select(negative, frames, backbone.device))
    added = {}
    if job.control is not None:
        residuals = job.control.residuals(
            guidance.stack(parts), frames, timestep, guidance.joined(embeds, len(frames))
        )
        added = {"residuals": residuals.behind(len(frames)) if with_source else residuals}
    if with_source:
        assert job.source is not None, "a source branch needs the source's trajectory"
        names.insert(0, "source")
        parts.insert(0, job.source.read(timestep, frames).to(latents))
        embeds.insert(0, _select(job.source_prompt_embeds, frames, backbone.device))
    embeds = prefixed(job, embeds, frames, timestep)
    with moving(job, len(frames)), reusing(job, names, frames, timestep):
        noise_pred = backbone.predict_noise(
            guidance.stack(parts), timestep, guidance.joined(embeds, len(frames)), **added
        )
    predicted = guidance.split(noise_pred, len(parts))
    guided = predicted[-1]
    if guidance_scale != 1:
        guided = guidance.combine(predicted[-2], predicted[-1], guidance_scale)
    return guided - (predicted[0] if source_pred is None else source_pred) if job.relative else guided


def predict_source(
    backbone: Backbone, job: EditJob, frames: Sequence[int], timestep: int, *, whole: bool = False
) -> Latents:
    """Predict noise for some frames of the source alone, as a source branch of `predict_guided` would.

    A call that is `whole` computes all layers, also where steps share some.
    """
    assert job.source is not None, "a source branch needs the source's trajectory"
    latents = job.source.read(timestep, frames).to(backbone.device)
    embeds = [_select(job.source_prompt_embeds, frames, backbone.device)]
    (embed,) = prefixed(job, embeds, frames, timestep)
    with moving(job, len(frames)), reusing(job, ["source"], frames, timestep, whole=whole):
        return backbone.predict_noise(latents, timestep, embed)


def moving(job: EditJob, frames: int) -> AbstractContextManager[None]:
    """Put a job's motion modules to work, if it has some, in network calls with so many frames."""
    return nullcontext() if job.motion is None else job.motion.passing(frames)


def reusing(
    job: EditJob, names: Sequence[Branch], frames: Sequence[int], timestep: int, *, whole: bool = False
) -> AbstractContextManager[None]:
    """Let a network call with these branches and frames use deep features of an earlier step, where the job does,
    unless it must be `whole`."""
    return nullcontext() if job.reuse is None else job.reuse.passing(names, frames, timestep, whole=whole)


def predict_in_windows(
    job: EditJob,
    latents: Latents,
    timestep: int,
    predict: Callable[[Sequence[int]], Latents],
    *,
    first: int = 0,
) -> Latents:
    """Predict the noise of a whole clip for a host whose calls need no particular frames together.

    `predict` gets frames: `job.batch` at a time, or those of overlapping windows where motion modules are at work;
    those that hold the frame `first` come before all others.
    """
    if job.motion is not None:
        windows = sorted(
            job.motion.cut(len(latents), timestep), key=lambda window: first not in window.frames
        )
        return predict_fused(latents, windows, lambda window: predict(window.frames))
    noise_pred = room_like(latents)
    batches = [range(len(latents))[start : start + job.batch] for start in range(0, len(latents), job.batch)]
    for frames in sorted(batches, key=lambda frames: first not in frames):
        noise_pred[list(frames)] = predict(frames).to(noise_pred)
    return noise_pred


def branches(job: EditJob, timestep: int | None = None, *, with_source: bool) -> int:
    """Count the branches that `predict_guided` stacks at a timestep; None is one with guidance, if there is any."""
    guidance_scale = job.guidance_scale if timestep is None else job.guidance_at(timestep)
    return 1 + (guidance_scale != 1) + with_source


def prefixed(
    job: EditJob, embeds: list[torch.Tensor], frames: Sequence[int], timestep: int
) -> list[torch.Tensor]:
    """Return embeddings of branches with the job's prefix in front; themselves where there is none at this timestep."""
    prefix = None if job.prefix is None else job.prefix(frames, timestep)
    if prefix is None:
        return embeds
    return [torch.cat([prefix.to(rows), rows.expand(len(frames), -1, -1)], dim=1) for rows in embeds]


def _select(embeds: PromptRows, frames: Sequence[int], device: torch.device) -> torch.Tensor:
    return embeds if len(embeds) == 1 else embeds[list(frames)].to(device)
