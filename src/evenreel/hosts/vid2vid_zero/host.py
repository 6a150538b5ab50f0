"""vid2vid-zero (arXiv:2303.17599): frames see each other, and the edit attends to its prompt where the source does."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from evenreel import random
from evenreel.backbones.base import Backbone
from evenreel.backbones.hooks import processors_installed
from evenreel.backbones.text import PromptTokens
from evenreel.diffusion import ddim, guidance
from evenreel.errors import SettingsError
from evenreel.hosts.base import (
    EditJob,
    Session,
    branches,
    check_share,
    predict_guided,
    prefixed,
    sole_session,
    start_of,
)
from evenreel.hosts.vid2vid_zero.prompt_to_prompt import (
    PromptMap,
    PromptToPromptState,
    controlled,
    is_replacement,
    map_prompts,
)
from evenreel.hosts.vid2vid_zero.spatio_temporal import VideoAttentionState, norms_shared, video_attentions
from evenreel.hosts.windows import cut
from evenreel.types import Latents, PromptRows


@dataclass(frozen=True, kw_only=True)
class Vid2VidZeroHost:
    """Attention across frames, and prompt-to-prompt: layout comes from where the source attends to its own prompt."""

    name: ClassVar[str] = "vid2vid_zero"
    without_source: ClassVar[Mapping[str, float]] = {"cross": 0.0, "self_attention": 0.0}

    window: int = 8
    """Frames that are computed together, at most `--batch`; each window sees the clip's first frame and the last one
    before it. Memory grows with it, not with the length of the clip."""
    dense_block: int = 0
    """Down block whose first self-attention sees all frames of the window, as do that in the middle and that of the up
    block after; all others see the first frame and the one before."""
    cross: float = 0.8
    """Share of the steps, from the first, at which attention to the prompt comes from the source's; needs a source
    prompt."""
    self_attention: float = 0.4
    """Share of the steps, from the first, at which self-attention of coarse layers comes from the source's."""
    null_text: float = 1.0
    """Share of the steps at which null texts are used, where an inversion found some: the first ones; of a negative
    share, the last ones."""
    published: bool = False
    """Whether to do as the published implementation does: source and edit are sampled side by side, all frames in one
    pass with group norms across them, nothing is done to self-attention, and attention to the prompt comes from the
    source for a share `self_attention` of the steps when words were added or left out."""

    def __post_init__(self) -> None:
        for share in ("cross", "self_attention"):
            check_share(self.name, share, getattr(self, share))
        if not -1.0 <= self.null_text <= 1.0:
            raise SettingsError(f"vid2vid_zero.null_text must be from -1 to 1, got {self.null_text}.")
        if self.window < 1:
            raise SettingsError(f"vid2vid_zero.window must be at least 1, got {self.window}.")
        if self.dense_block < 0:
            raise SettingsError(f"vid2vid_zero.dense_block must be at least 0, got {self.dense_block}.")

    @sole_session
    def attach(self, backbone: Backbone, job: EditJob) -> Iterator[Session]:
        """Install attention across frames and prompt-to-prompt while inside.

        Raises: SettingsError for a job without a source when attention comes from it, and for a `dense_block` that the
        model does not have.
        """
        session_class = PublishedSession if self.published else Vid2VidZeroSession
        session = session_class(backbone, job, self)
        unet = backbone.unet
        with ExitStack() as stack:
            if self.published:
                stack.enter_context(norms_shared(unet, lambda: job.shape[0]))
            attentions = video_attentions(unet, session.video_attention, self.dense_block)
            stack.enter_context(processors_installed(unet, attentions))
            stack.enter_context(processors_installed(unet, controlled(unet, session.prompt_to_prompt)))
            yield session

    def attach_inversion(self, backbone: Backbone, frames: int) -> AbstractContextManager[int | None]:
        """The model as it inverts a clip, for `hosts.base.inverting`: with group norms across frames if `published`."""
        return _inverting_together(backbone, frames) if self.published else nullcontext()


@contextmanager
def _inverting_together(backbone: Backbone, frames: int) -> Iterator[int]:
    with norms_shared(backbone.unet, lambda: frames):
        yield frames


class Vid2VidZeroSession:
    """One edit, window by window; the source comes from its inversion, and takes part while attention comes from it."""

    def __init__(self, backbone: Backbone, job: EditJob, host: Vid2VidZeroHost) -> None:
        if job.source is None and (host.cross or host.self_attention or host.published):
            raise SettingsError(
                "vid2vid_zero takes attention from an inverted source; set cross and self_attention to 0 without one."
            )
        if job.control is not None and host.published:
            raise SettingsError(
                "vid2vid_zero knows no ControlNet when published is set; leave one of them out."
            )
        self.backbone, self.window = backbone, min(host.window, job.batch)
        null_embeds = null_texts_used(job, host.null_text, published=host.published)
        self.job = replace(job, null_embeds=null_embeds)
        self.plan = ControlPlan.of(backbone, job, host)
        self.video_attention = VideoAttentionState()
        self.prompt_to_prompt = PromptToPromptState(latent_size=job.shape[2:])

    def start(self) -> tuple[Latents, tuple[int, ...]]:
        """At the inverted source, or at noise."""
        return start_of(self.job, self.backbone.device)

    def predict_noise(self, latents: Latents, step_index: int, timestep: int) -> Latents:
        """Guided noise prediction; where windows meet is drawn anew at every step."""
        with_source = step_index < max(self.plan.text_steps, self.plan.self_steps)
        self._set(step_index, branches(self.job, with_source=with_source), source=0)
        windows = self._windows(step_index, len(latents))
        noise_pred = torch.empty_like(latents)
        try:
            for window in windows:
                self.video_attention.more = window is not windows[-1]
                frames = list(window)
                noise_pred[frames] = predict_guided(
                    self.backbone, self.job, latents[frames], frames, timestep, with_source=with_source
                )
        finally:
            self.video_attention.forget()
        return noise_pred

    def _set(self, step_index: int, branches: int, source: int) -> None:
        self.video_attention.branches = self.prompt_to_prompt.branches = branches
        self.prompt_to_prompt.source = source
        self.prompt_to_prompt.prompts = self.plan.prompts if step_index < self.plan.text_steps else None
        self.prompt_to_prompt.self_attention = step_index < self.plan.self_steps

    def _windows(self, step_index: int, frames: int) -> list[tuple[int, ...]]:
        if frames <= self.window:
            return [tuple(range(frames))]
        first = torch.randint(self.window, (), generator=random.generator(self.job.seed, step_index))
        return cut(frames, self.window, int(first))


class PublishedSession(Vid2VidZeroSession):
    """One edit of a whole clip at once. The source is sampled beside it, and may drift away from its inversion."""

    def predict_noise(self, latents: Latents, step_index: int, timestep: int) -> Latents:
        """Guided noise prediction of the edit; the source is taken one step further."""
        job, schedule = self.job, self.backbone.schedule
        if step_index == 0:
            assert job.source is not None, "checked when it began"
            self.source = job.source.read(timestep).to(latents)
        rows = [(self.source, job.source_prompt_embeds), (latents, job.prompt_embeds)]
        if job.guidance_scale != 1:
            negative = job.null_embeds.get(timestep, job.negative_prompt_embeds)
            rows = [(self.source, negative), (latents, negative), *rows]
        self._set(step_index, len(rows), source=len(rows) - 2)
        prompt_embeds = [embeds.expand(len(latents), -1, -1) for _, embeds in rows]
        prompt_embeds = prefixed(job, prompt_embeds, range(len(latents)), timestep)
        noise_pred = self.backbone.predict_noise(
            guidance.stack([branch for branch, _ in rows]), timestep, torch.cat(prompt_embeds)
        )
        source, edit = self._guided(guidance.split(noise_pred, len(rows)))
        later = job.timesteps[step_index + 1 :]
        below = schedule.alpha(later[0]) if later else schedule.final_alpha_cumprod
        self.source = ddim.step(self.source, source, schedule.alpha(timestep), below)
        return edit

    def _guided(self, parts: tuple[Latents, ...]) -> tuple[Latents, ...]:
        """Source and edit."""
        if len(parts) == 2:
            return parts
        scale = self.job.guidance_scale
        return tuple(guidance.combine(*pair, scale) for pair in zip(parts[:2], parts[2:], strict=True))


@dataclass(frozen=True, kw_only=True)
class ControlPlan:
    """At which steps of a run attention comes from the source."""

    prompts: PromptMap | None
    """How attention to the prompt does; None when there are no words to compare."""
    text_steps: int
    """First steps at which it does."""
    self_steps: int
    """First steps at which coarse self-attention does."""

    @classmethod
    def of(cls, backbone: Backbone, job: EditJob, host: Vid2VidZeroHost) -> "ControlPlan":
        """Shares of the run as whole steps. An empty source prompt has no words that attention could come from."""
        steps = len(job.timesteps)
        self_steps = 0 if host.published else int(steps * host.self_attention)
        if job.prompts is None or not job.prompts.source.split() or not host.cross:
            return cls(prompts=None, text_steps=0, self_steps=self_steps)
        length = job.prompt_embeds.shape[1]
        source, edit = (_tokens(backbone, prompt).padded(length) for prompt in job.prompts)
        prompts = map_prompts(source, edit, published=host.published)
        if host.published:
            share = host.cross if is_replacement(source, edit) else host.self_attention
            return cls(prompts=prompts, text_steps=int((steps + 1) * share), self_steps=0)
        return cls(prompts=prompts, text_steps=int(steps * host.cross), self_steps=self_steps)


def null_texts_used(job: EditJob, share: float, *, published: bool = False) -> Mapping[int, PromptRows]:
    """Null texts of the first steps, or, where `share` is negative, of the last ones.

    The published implementation takes one more of the first ones.
    """
    steps = len(job.timesteps)
    first, last = (0.0, steps * share) if share > 0 else (steps * (1 + share), steps)
    return {
        timestep: job.null_embeds[timestep]
        for index, timestep in enumerate(job.timesteps)
        if timestep in job.null_embeds and first <= index and (index < last or (published and index == last))
    }


def _tokens(backbone: Backbone, prompt: str) -> PromptTokens:
    if not hasattr(backbone, "tokens"):
        raise SettingsError(
            f"model {backbone.name} does not say which tokens make up a word; set vid2vid_zero.cross to 0."
        )
    return backbone.tokens(prompt)  # pyright: ignore[reportAttributeAccessIssue]
