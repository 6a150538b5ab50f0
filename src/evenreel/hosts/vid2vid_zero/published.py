"""vid2vid-zero as its published implementation does it: all that differs stands here."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from evenreel.backbones.base import Backbone
from evenreel.diffusion import ddim, guidance
from evenreel.errors import SettingsError
from evenreel.hosts.base import EditJob
from evenreel.hosts.prediction import moving, prefixed
from evenreel.hosts.prompt_to_prompt import has_words, is_replacement, map_prompts, tokens_of
from evenreel.hosts.vid2vid_zero.session import (
    NO_SOURCE,
    ControlPlan,
    Vid2VidZeroSession,
    Vid2VidZeroSettings,
    null_text_steps,
)
from evenreel.hosts.vid2vid_zero.spatio_temporal import norms_shared
from evenreel.ops.word_alignment import PUBLISHED
from evenreel.types import Latents, PromptRows


class PublishedSession(Vid2VidZeroSession):
    """One edit of a whole clip at once. The source is sampled beside it, and may drift away from its inversion."""

    @staticmethod
    def check(job: EditJob, host: Vid2VidZeroSettings) -> None:
        """Raise SettingsError for a job without a source, with a ControlNet, or too long for its motion modules."""
        if job.source is None:
            raise SettingsError(NO_SOURCE)
        if job.motion is not None:
            job.motion.whole(job.shape[0])
        if job.control is not None:
            raise SettingsError(
                "vid2vid_zero knows no ControlNet when published is set; leave one of them out."
            )

    @staticmethod
    @contextmanager
    def together(unet: Any, frames: int) -> Generator[int | None]:
        """Take group norms across all frames."""
        with norms_shared(unet, lambda: frames):
            yield frames

    @staticmethod
    def null_texts_used(job: EditJob, share: float) -> Mapping[int, PromptRows]:
        """Take one more of the first ones."""
        first, last = null_text_steps(len(job.timesteps), share)
        return {
            timestep: job.null_embeds[timestep]
            for index, timestep in enumerate(job.timesteps)
            if timestep in job.null_embeds and first <= index <= last
        }

    @staticmethod
    def planned(backbone: Backbone, job: EditJob, host: Vid2VidZeroSettings) -> ControlPlan:
        """Leave self-attention alone; the share of the prompt's attention depends on what was done to the words."""
        if not (host.cross and has_words(job)):
            return ControlPlan(prompts=None, text_steps=0, self_steps=0)
        source, edit = tokens_of(backbone, job, "vid2vid_zero.cross")
        share = host.cross if is_replacement(source, edit) else host.self_attention
        text_steps = int((len(job.timesteps) + 1) * share)
        return ControlPlan(prompts=map_prompts(source, edit, PUBLISHED), text_steps=text_steps, self_steps=0)

    def predict_noise(self, latents: Latents, step_index: int, timestep: int) -> Latents:
        """Predict the guided noise of the edit; the source is taken one step further."""
        job, schedule = self.job, self.backbone.schedule
        if step_index == 0:
            assert job.source is not None, "checked when it began"
            self.source = job.source.read(timestep).to(latents)
        rows = [(self.source, job.source_prompt_embeds), (latents, job.prompt_embeds)]
        scale = job.guidance_at(timestep)
        if scale != 1:
            negative = job.null_embeds.get(timestep, job.negative_prompt_embeds)
            rows = [(self.source, negative), (latents, negative), *rows]
        self._set(step_index, len(rows), source=len(rows) - 2)
        prompt_embeds = [embeds.expand(len(latents), -1, -1) for _, embeds in rows]
        prompt_embeds = prefixed(job, prompt_embeds, range(len(latents)), timestep)
        with moving(job, len(latents)):
            noise_pred = self.backbone.predict_noise(
                guidance.stack([branch for branch, _ in rows]), timestep, torch.cat(prompt_embeds)
            )
        source, edit = self._guided(guidance.split(noise_pred, len(rows)), scale)
        later = job.timesteps[step_index + 1 :]
        below = schedule.alpha(later[0]) if later else schedule.final_alpha_cumprod
        self.source = ddim.step(self.source, source, schedule.alpha(timestep), below)
        return edit

    def carried(self) -> Mapping[str, torch.Tensor]:
        """Return the source as it was sampled so far."""
        return {"source": self.source}

    def carry_on(self, carried: Mapping[str, torch.Tensor]) -> None:
        """Take the source as a session that was stopped had sampled it."""
        self.source = carried["source"].to(self.backbone.device)

    @staticmethod
    def _guided(parts: tuple[Latents, ...], scale: float) -> tuple[Latents, ...]:
        """Source and edit."""
        if len(parts) == 2:
            return parts
        return tuple(guidance.combine(*pair, scale) for pair in zip(parts[:2], parts[2:], strict=True))
