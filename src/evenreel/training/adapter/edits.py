"""What an adapter learns from edits: led along its own edits, at every step towards the right answer.

Learning to predict noise in clips (GE-Adapter, Eq. 19; `training.adapter.noise`) never shows an adapter what it is
used for: guidance, a prompt that does not say what the clip shows, features that a host injects, frames that motion
modules let see each other, and latents that the edit itself has made so far. Here each group of frames is edited as
users do it, by a host, with FlowEdit and with motion modules. At every step the clean edit that the step leads to is
compared with the right answer, frame by frame and in how it changes from frame to frame; then the edit takes the step.
Gradients do not pass from step to step, so memory is that of one network call.

The right answer of a rendered scene is the scene rendered with one to three attributes changed. That of any other clip
is the clip itself, under a caption of its own: an edit that asks for nothing must change nothing. Where the way back is
learnt (`training.adapter.cycle`), what the model has made of a clip is edited, and the clip is its right answer.
"""

import random
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from evenreel.adapters.adapter import Adapter
from evenreel.adapters.lora import LoraSwitch
from evenreel.backbones.base import Backbone
from evenreel.backbones.conditioning import attended_tokens
from evenreel.diffusion import ddim
from evenreel.diffusion.inversion import Inverted
from evenreel.errors import SettingsError
from evenreel.hosts import motion_windows
from evenreel.hosts.base import EditJob, PrefixOf, Prompts, create_host
from evenreel.hosts.frame import FrameHost, FrameSession
from evenreel.hosts.motion_windows import MotionWindows
from evenreel.hosts.prompt_to_prompt import TextPlan, map_prompts, side_by_side
from evenreel.inversions.base import SourceClip
from evenreel.inversions.flow_edit import FlowEditInversion
from evenreel.training.adapter.cycle import asked_for, turned
from evenreel.training.adapter.prepared_edit import PreparedEdit
from evenreel.training.adapter.settings import EditLossSettings
from evenreel.training.data.encoded import Encoded
from evenreel.training.data.shards import Batch, DrawBatch
from evenreel.training.trainee import Trainee
from evenreel.types import Frames, Latents
from evenreel.world import Scene, caption, random_change, render


def timesteps_of(settings: EditLossSettings, backbone: Backbone) -> tuple[list[int], list[int]]:
    """Return timesteps of an edit before the window, and inside it. Raises: SettingsError for none inside."""
    trained = len(backbone.schedule.alphas_cumprod)
    told = backbone.schedule.timesteps(settings.steps)
    inside = [timestep for timestep in told if settings.window.holds(timestep, trained)]
    if not inside:
        raise SettingsError(
            f"none of the {settings.steps} steps of an edit lies in the window {settings.window}; widen it."
        )
    return [timestep for timestep in told if timestep > inside[0]], inside


class EditDraws:
    """Micro-batches by number, as `Training` counts them: the steps of an edit follow each other.

    Of a step's micro-batches each one continues an edit of its own; when the edits have reached the end of the window,
    all begin anew with the next samples.
    """

    def __init__(
        self,
        draw: DrawBatch,
        encoded: Encoded,
        settings: EditLossSettings,
        accumulation: int,
        captions: Sequence[str] = (),
    ) -> None:
        """`captions` are those of all data, from which edits are asked for where the way back is learnt."""
        self._draw, self._encoded, self._settings = draw, encoded, settings
        self._captions = captions
        self._accumulation = accumulation
        self.length = len(timesteps_of(settings, encoded.backbone)[1])
        """Steps of training that an edit takes."""
        self._kept: dict[int, tuple[int, PreparedEdit]] = {}

    def __call__(self, number: int) -> PreparedEdit:
        """The micro-batch of a number."""
        step, slot = divmod(number, self._accumulation)
        edit, within = divmod(step, self.length)
        if self._kept.get(slot, (None,))[0] != edit:
            batch = self._draw(edit * self._accumulation + slot)
            self._kept[slot] = edit, prepare(batch, self._encoded, self._settings, slot, self._captions)
        kept = self._kept[slot][1]
        return PreparedEdit(**{**kept.__dict__, "step": within})


@torch.no_grad()
def prepare(
    batch: Batch,
    encoded: Encoded,
    settings: EditLossSettings,
    slot: int = 0,
    captions: Sequence[str] = (),
) -> PreparedEdit:
    """Return the beginning of some edits; what is asked for, and how strongly, follows from the batch's own seeds."""
    backbone = encoded.backbone
    sources, prompts, answers, scales = [], [], [], []
    for index, seed in enumerate(batch.seeds):
        rng = random.Random(f"evenreel edit {seed}")
        scales.append(rng.uniform(*settings.guidance_scale))
        facts = batch.facts[index] if batch.facts else {}
        if "scene" in facts and settings.answers == "known":
            source, prompt, answer = _changed(facts, rng, batch.frames.shape[-2:])
        else:
            source = prompt = batch.captions[index]
            answer = batch.frames[index]
            if settings.answers == "cycle":
                own = {source, *facts.get("captions", ()), *facts.get("variations", ())}
                prompt = asked_for(source, own, captions, rng)
        sources.append(source)
        prompts.append(prompt)
        answers.append(answer)
    latents = encoded.latents(batch)
    return PreparedEdit(
        slot=slot,
        step=0,
        latents=latents,
        answers=backbone.encode(torch.cat(answers).to(backbone.device)).to(latents).clone(),
        source_text=encoded.text(sources),
        text=encoded.text(prompts),
        negative_text=encoded.text([""]),
        prompts=tuple(
            Prompts(source=encoded.fitting(source), edit=encoded.fitting(prompt))
            for source, prompt in zip(sources, prompts, strict=True)
        ),
        vision=encoded.hidden(batch),
        guidance_scales=tuple(scales),
        seeds=tuple(batch.seeds),
    )


def _changed(facts: dict, rng: random.Random, size: tuple[int, int]) -> tuple[str, str, Frames]:
    """A scene's caption, the caption after one to three changes, and what it then shows."""
    scene = Scene.from_json(facts["scene"])
    changed = random_change(scene, rng)
    shown = render(changed, facts["frames"], (size[0], size[1]), maps=False)
    return caption(scene), caption(changed, rng), shown.frames


@dataclass
class _Edit:
    """An edit of one group of frames under way, or of several side by side: their frames follow each other."""

    job: EditJob
    inverted: Inverted
    answers: Latents
    vision: Float[Tensor, "frames _ _"] | None
    noisy: Latents
    """Where the edit is."""
    groups: int
    """How many groups it is of."""
    text: TextPlan | None
    """How each group attends to its words, where there are several."""


@dataclass(frozen=True, kw_only=True)
class _SideBySide(MotionWindows):
    """Motion modules that see several groups of frames in one network call, each by itself."""

    groups: int

    def cut(self, frames: int, timestep: int) -> list[motion_windows.Window]:
        """All at once."""
        return [motion_windows.Window(tuple(range(frames)), (1.0,) * frames)]

    @contextmanager
    def passing(self, frames: int) -> Generator[None]:
        """Let the modules work inside."""
        with super().passing(frames // self.groups):
            yield


class EditTrainee(Trainee):
    """An adapter at work in a frozen UNet; its forward pass takes a step of edits and returns (loss, figures)."""

    def __init__(
        self,
        backbone: Backbone,
        adapter: Adapter,
        switch: LoraSwitch | None,
        settings: EditLossSettings,
        motion: MotionWindows | None = None,
    ) -> None:
        """`switch` turns the LoRA off for the source and outside the window; `motion` are modules in the UNet."""
        super().__init__()
        self.adapter, self.settings = adapter, settings
        # In a list: the frozen network is not a part of what is trained, synchronised or saved.
        self._frozen = [backbone]
        self._switch, self._motion = switch, motion
        self._host = create_host(settings.host, settings.host_options)
        # Where no frame of one group sees another's, all groups pass through the model in one call, with the first
        # one's guidance scale and seed.
        self._side_by_side = isinstance(self._host, FrameHost) and adapter.tokens is None
        self._before, self._inside = timesteps_of(settings, backbone)
        self._edits: dict[int, tuple[list[_Edit], ExitStack]] = {}

    def forward(self, batch: PreparedEdit) -> tuple[Tensor, dict[str, Tensor]]:
        """Make one step of the edits of a slot, which go on from where the last one left them."""
        if batch.step == 0:
            self._begin(batch)
        edits, _ = self._edits[batch.slot]
        index = len(self._before) + batch.step
        losses = [self._taken(edit, index, with_tokens=True) for edit in edits]
        edit, temporal = (torch.stack(parts).mean() for parts in zip(*losses, strict=True))
        return edit + self.settings.weight_temporal * temporal, {
            "edit": edit.detach(),
            "temporal": temporal.detach(),
        }

    @torch.no_grad()
    def _begin(self, batch: PreparedEdit) -> None:
        """Edits of a batch's groups up to the window, by the model as it is."""
        if batch.slot in self._edits:
            self._edits[batch.slot][1].close()
        stack = ExitStack()
        self._turn(on=False)
        try:
            if self.settings.answers == "cycle":
                batch = turned(batch, self._edited(batch))
            edits = [self._begun(batch, groups, stack) for groups in self._together(batch)]
            for edit in edits:
                for index in range(len(self._before)):
                    self._taken(edit, index, with_tokens=False)
        finally:
            self._turn(on=True)
        self._edits[batch.slot] = edits, stack

    def _together(self, batch: PreparedEdit) -> list[Sequence[int]]:
        all_groups = range(len(batch.text))
        return [all_groups] if self._side_by_side else [[group] for group in all_groups]

    def _edited(self, batch: PreparedEdit) -> Latents:
        """The edits of a batch's groups, whole, by the model as it is."""
        with ExitStack() as stack:
            edits = [self._begun(batch, groups, stack) for groups in self._together(batch)]
            for edit in edits:
                for index in range(len(edit.inverted.timesteps)):
                    self._taken(edit, index, with_tokens=False)
            return torch.cat([edit.noisy for edit in edits])

    def _begun(self, batch: PreparedEdit, groups: Sequence[int], stack: ExitStack) -> _Edit:
        backbone, settings, first = self._frozen[0], self.settings, groups[0]
        count = len(batch.text)

        def of_groups(rows: Tensor) -> Tensor:
            return torch.cat([rows.chunk(count)[group] for group in groups])

        latents, answers = of_groups(batch.latents), of_groups(batch.answers)
        frames = len(latents) // len(groups)
        # A row for each prompt, or where there are several, for each frame.
        repeats = frames if len(groups) > 1 else 1
        source_text, text = (
            rows[list(groups)].repeat_interleave(repeats, 0) for rows in (batch.source_text, batch.text)
        )
        motion, plan = self._motion, None
        if len(groups) > 1:
            motion = motion and _SideBySide(
                switch=motion.switch, most=motion.most, timesteps=motion.timesteps, groups=len(groups)
            )
            plan = self._plan(batch, groups, frames)
        source = SourceClip(
            backbone=backbone,
            latents=latents,
            timesteps=backbone.schedule.timesteps(settings.steps),
            prompt_embeds=source_text,
            negative_prompt_embeds=batch.negative_text,
            guidance_scale=batch.guidance_scales[first],
            seed=batch.seeds[first],
            batch=len(latents),
            motion=motion,
        )
        inverted = stack.enter_context(FlowEditInversion().inverted(source))
        _, channels, height, width = latents.shape
        job = EditJob(
            shape=(len(latents), channels, height, width),
            timesteps=inverted.timesteps,
            prompt_embeds=text,
            negative_prompt_embeds=batch.negative_text,
            source_prompt_embeds=source_text,
            prompts=batch.prompts[first],
            source=inverted.trajectory,
            clean=latents,
            guidance_scale=batch.guidance_scales[first],
            seed=batch.seeds[first],
            batch=len(latents),
            motion=motion,
        )
        vision = None if batch.vision is None else of_groups(batch.vision)
        begins = inverted.trajectory.read(inverted.timesteps[0]).to(latents)
        # a copy leaves inference mode behind
        return _Edit(job, inverted, answers, vision, begins.clone(), len(groups), plan)

    def _plan(self, batch: PreparedEdit, groups: Sequence[int], frames: int) -> TextPlan:
        """Attention to words of several groups, each to its own."""
        assert isinstance(self._host, FrameHost), "the host whose groups pass side by side"
        backbone = self._frozen[0]
        length = attended_tokens(backbone.unet, batch.text)
        maps = [
            map_prompts(*(backbone.tokens(prompt).padded(length) for prompt in batch.prompts[group]))
            for group in groups
        ]
        steps = int(self._host.shares().p2p_cross * self.settings.steps)
        return TextPlan(prompts=side_by_side(maps, frames).to(batch.text.device), steps=steps)

    def _taken(self, edit: _Edit, index: int, *, with_tokens: bool) -> tuple[Tensor, Tensor]:
        """Take a step of an edit; the errors of the frames that it leads to, and of how these change."""
        backbone, source, latents = self._frozen[0], edit.inverted, edit.noisy
        assert edit.job.clean is not None, "an edit has a source"
        clean, timestep = edit.job.clean, source.timesteps[index]
        job = replace(edit.job, prefix=self._prefix(edit)) if with_tokens else edit.job
        with self._host.attach(backbone, job) as session:
            if edit.text is not None:
                assert isinstance(session, FrameSession)
                session.text = edit.text
            session.start()
            noise_pred = session.predict_noise(latents, index, timestep)
        added = source.noise_on(backbone.device)
        assert added is not None, "FlowEdit adds noise"
        is_last = index + 1 == len(source.timesteps)
        schedule = backbone.schedule
        here = schedule.alpha(timestep)
        below = schedule.final_alpha_cumprod if is_last else schedule.alpha(source.timesteps[index + 1])
        mean = ddim.stochastic_mean(latents, noise_pred, here, below, eta=source.eta)
        following = mean + added(timestep).to(latents)
        beside = clean if is_last else source.trajectory.read(source.timesteps[index + 1]).to(latents)
        # The edit itself, before the step and after it, is what latents differ from the source's by; the step covers
        # a part of the way to where it leads.
        change = (latents - source.trajectory.read(timestep).to(latents)) / here**0.5
        changed = (following - beside) / below**0.5
        noise, left = (1 / here - 1) ** 0.5, (1 / below - 1) ** 0.5
        leads_to = clean + change + (changed - change) * (noise / (noise - left))
        edit.noisy = following.detach()
        error, weight = leads_to - edit.answers, _weight(here)
        changes = error.unflatten(0, (edit.groups, -1)).diff(dim=1)
        temporal = weight * changes.square().mean() if changes.numel() else error.new_zeros(())
        return weight * error.square().mean(), temporal

    def _prefix(self, edit: _Edit) -> PrefixOf | None:
        tokens = self.adapter.tokens
        if tokens is None:
            return None
        rows = tokens(edit.vision, edit.job.shape[0])
        return lambda frames, _: rows[list(frames)]

    def _turn(self, *, on: bool) -> None:
        if self._switch is not None:
            self._switch.turn(on=on)


def _weight(alpha: float) -> float:
    """Of an error in clean latents at a noise level: that of the velocity (1 / (1 - alpha)), held down at both ends.

    Where little noise is left it would grow without bound; where next to nothing of the clip is left, errors are large
    and teach little.
    """
    return min(1 / (1 - alpha), 5.0) * alpha / (alpha + 0.1)
