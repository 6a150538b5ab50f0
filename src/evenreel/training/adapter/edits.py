"""What an adapter learns from edits: led along its own edits, at every step towards the right answer.

Learning to predict noise in clips (GE-Adapter, Eq. 19; `training.adapter.noise`) never shows an adapter what it is
used for: noise that an inversion found, guidance, a prompt that does not say what the clip shows, and latents that the
edit itself has made so far. Here each group of frames is inverted by the model as it is, and sampled with the adapter
under another prompt. At every step the clean latents that the guided prediction implies are compared with those of the
right answer, frame by frame and in how they change from frame to frame; then the edit takes the step. Gradients do not
pass from step to step, so memory is that of one network call.

The right answer of a rendered scene is the scene rendered with an attribute changed. That of any other clip is the clip
itself, under a caption of its own: an edit that asks for nothing must change nothing.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from evenreel.adapters.adapter import Adapter
from evenreel.adapters.lora import LoraSwitch
from evenreel.adapters.window import TRAINING, Window
from evenreel.backbones.base import Backbone
from evenreel.diffusion import ddim, guidance
from evenreel.errors import SettingsError
from evenreel.inversions import fixed_point
from evenreel.training.adapter.encoded import Encoded
from evenreel.training.data.shards import Batch
from evenreel.training.trainee import Trainee
from evenreel.types import Frames, Latents
from evenreel.world import ATTRIBUTES, Scene, caption, render

DrawBatch = Callable[[int], Batch]
"""The samples of a number: always the same ones."""


@dataclass(frozen=True, kw_only=True)
class EditLossSettings:
    """How edits are made in training, and what is minimised."""

    steps: int = 15
    """Sampling steps of an edit."""
    guidance_scale: tuple[float, float] = (2.0, 4.0)
    """Between which the guidance scale of each edit is drawn."""
    window: Window = TRAINING
    """Noise levels at which the adapter is at work, and learns."""
    weight_temporal: float = 1.0
    """Of the error in how frames change, beside that of the frames themselves."""

    def __post_init__(self) -> None:
        low, high = self.guidance_scale
        if not 0 <= low <= high <= 100:
            raise SettingsError(f"guidance must be drawn from LOW:HIGH within 0 and 100, got {low}:{high}.")
        if self.steps < 1:
            raise SettingsError(f"the steps of an edit must be at least 1, got {self.steps}.")
        if self.weight_temporal < 0:
            raise SettingsError(
                f"the weight of the temporal loss must not be negative, got {self.weight_temporal}."
            )

    def timesteps(self, backbone: Backbone) -> tuple[list[int], list[int]]:
        """Timesteps of an edit before the window, and inside it. Raises: SettingsError for none inside."""
        trained = len(backbone.schedule.alphas_cumprod)
        told = backbone.schedule.timesteps(self.steps)
        inside = [timestep for timestep in told if self.window.holds(timestep, trained)]
        if not inside:
            raise SettingsError(
                f"none of the {self.steps} steps of an edit lies in the window {self.window}; widen it."
            )
        return [timestep for timestep in told if timestep > inside[0]], inside


@dataclass(frozen=True)
class PreparedEdit:
    """A step of some edits. Rows: groups outermost, then frames."""

    slot: int
    """Which of the edits under way it belongs to."""
    step: int
    """Which of the steps inside the window it is; 0 begins the edits."""
    latents: Float[Tensor, "rows channels height width"]
    """Of the source."""
    answers: Float[Tensor, "rows channels height width"]
    """Of the right answer."""
    source_text: Float[Tensor, "groups _ _"]
    text: Float[Tensor, "groups _ _"]
    """Of the prompt that asks for the right answer."""
    negative_text: Float[Tensor, "one _ _"]
    """Of no prompt."""
    vision: Float[Tensor, "rows _ _"] | None
    """Hidden states of the vision tower, where prompt tokens are trained."""
    guidance_scale: Float[Tensor, "rows 1 1 1"]


class EditDraws:
    """Micro-batches by number, as `Training` counts them: the steps of an edit follow each other.

    Of a step's micro-batches each one continues an edit of its own; when the edits have reached the end of the window,
    all begin anew with the next samples.
    """

    def __init__(
        self, draw: DrawBatch, encoded: Encoded, settings: EditLossSettings, accumulation: int
    ) -> None:
        self._draw, self._encoded, self._settings = draw, encoded, settings
        self._accumulation = accumulation
        self.length = len(settings.timesteps(encoded.backbone)[1])
        """Steps of training that an edit takes."""
        self._kept: dict[int, tuple[int, PreparedEdit]] = {}

    def __call__(self, number: int) -> PreparedEdit:
        """The micro-batch of a number."""
        step, slot = divmod(number, self._accumulation)
        edit, within = divmod(step, self.length)
        if self._kept.get(slot, (None,))[0] != edit:
            batch = self._draw(edit * self._accumulation + slot)
            self._kept[slot] = edit, prepare(batch, self._encoded, self._settings, slot)
        kept = self._kept[slot][1]
        return PreparedEdit(**{**kept.__dict__, "step": within})


@torch.no_grad()
def prepare(batch: Batch, encoded: Encoded, settings: EditLossSettings, slot: int = 0) -> PreparedEdit:
    """The beginning of some edits; what is asked for, and how strongly, follows from the batch's own seeds."""
    backbone, frames = encoded.backbone, batch.frames.shape[1]
    sources, prompts, answers, scales = [], [], [], []
    for index, seed in enumerate(batch.seeds):
        rng = random.Random(f"evenreel edit {seed}")
        scales.append(rng.uniform(*settings.guidance_scale))
        facts = batch.facts[index] if batch.facts else {}
        if "scene" in facts:
            source, prompt, answer = _changed(facts, rng, batch.frames.shape[-2:])
        else:
            source = prompt = batch.captions[index]
            answer = batch.frames[index]
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
        vision=encoded.hidden(batch),
        guidance_scale=torch.tensor(scales).to(latents).repeat_interleave(frames).view(-1, 1, 1, 1),
    )


def _changed(facts: dict, rng: random.Random, size: tuple[int, int]) -> tuple[str, str, Frames]:
    """A scene's caption, the caption after one change, and what it then shows."""
    scene = Scene.from_json(facts["scene"])
    name = rng.choice(list(ATTRIBUTES))
    value = rng.choice([value for value in ATTRIBUTES[name] if value != scene.attribute(name)])
    changed = scene.edited(**{name: value})
    shown = render(changed, facts["frames"], (size[0], size[1]), maps=False)
    return caption(scene), caption(changed, rng), shown.frames


class EditTrainee(Trainee):
    """An adapter at work in a frozen UNet; its forward pass takes a step of edits and returns (loss, figures)."""

    def __init__(
        self, backbone: Backbone, adapter: Adapter, switch: LoraSwitch | None, settings: EditLossSettings
    ) -> None:
        """`switch` turns the LoRA off for the inversion and outside the window."""
        super().__init__()
        self.adapter, self.settings = adapter, settings
        # In a list: the frozen network is no part of what is trained, synchronised or saved.
        self._frozen = [backbone]
        self._switch = switch
        self._before, self._inside = settings.timesteps(backbone)
        self._edits: dict[int, Latents] = {}

    def forward(self, batch: PreparedEdit) -> tuple[Tensor, dict[str, Tensor]]:
        """One step of the edits of a slot, which go on from where the last one left them."""
        schedule = self._frozen[0].schedule
        if batch.step == 0:
            self._edits[batch.slot] = self._begun(batch)
        noisy, timestep = self._edits[batch.slot], self._inside[batch.step]
        alpha = schedule.alpha(timestep)
        noise_pred = self._guided(noisy, timestep, batch, with_tokens=True)
        error = ddim.pred_original_sample(noisy, noise_pred, alpha) - batch.answers
        changes = error.unflatten(0, (len(batch.text), -1)).diff(dim=1)
        weight = _weight(alpha)
        edit = weight * error.square().mean()
        temporal = weight * changes.square().mean() if changes.shape[1] else error.new_zeros(())
        self._edits[batch.slot] = self._after(noisy, noise_pred.detach(), timestep)
        return edit + self.settings.weight_temporal * temporal, {
            "edit": edit.detach(),
            "temporal": temporal.detach(),
        }

    @torch.no_grad()
    def _begun(self, batch: PreparedEdit) -> Latents:
        """The source inverted, and sampled to the window, by the model as it is."""
        backbone = self._frozen[0]
        frames = len(batch.latents) // len(batch.text)
        source_text = batch.source_text.repeat_interleave(frames, dim=0)
        timesteps = backbone.schedule.timesteps(self.settings.steps)
        self._turn(on=False)
        try:
            inverted = fixed_point.invert(
                batch.latents,
                lambda rows, timestep: backbone.predict_noise(rows, timestep, source_text),
                backbone.schedule,
                timesteps,
                iterations=1,
            )
            *_, (_, noise) = inverted
            noisy = noise.clone()  # a copy leaves inference mode behind
            for timestep in self._before:
                noise_pred = self._guided(noisy, timestep, batch, with_tokens=False)
                noisy = self._after(noisy, noise_pred, timestep)
        finally:
            self._turn(on=True)
        return noisy

    def _after(self, noisy: Latents, noise_pred: Latents, timestep: int) -> Latents:
        """The edits after their step at a timestep."""
        schedule = self._frozen[0].schedule
        following = [*schedule.timesteps(self.settings.steps), -1]
        alpha_to = schedule.alpha(following[following.index(timestep) + 1])
        return ddim.step(noisy, noise_pred, schedule.alpha(timestep), alpha_to)

    def _guided(self, noisy: Latents, timestep: int, batch: PreparedEdit, *, with_tokens: bool) -> Latents:
        backbone = self._frozen[0]
        frames = len(noisy) // len(batch.text)
        texts = batch.negative_text.expand(len(noisy), -1, -1), batch.text.repeat_interleave(frames, dim=0)
        if self.adapter.tokens is not None and with_tokens:
            texts = tuple(self.adapter.tokens.before(text, batch.vision) for text in texts)
        rows = guidance.stack([noisy] * 2)
        output = backbone.unet(
            rows.to(backbone.dtype),
            timestep,
            encoder_hidden_states=torch.cat(texts).to(backbone.dtype),
            return_dict=False,
        )[0].float()
        schedule = backbone.schedule
        noise_pred = ddim.to_noise(output, rows, schedule.alpha(timestep), schedule.prediction_type)
        uncond, cond = guidance.split(noise_pred, 2)
        return guidance.combine(uncond, cond, batch.guidance_scale)

    def _turn(self, *, on: bool) -> None:
        if self._switch is not None:
            self._switch.turn(on=on)


def _weight(alpha: float) -> float:
    """Of an error in clean latents at a noise level: that of the velocity (1 / (1 - alpha)), held down at both ends.

    Where little noise is left it would grow without bound; where next to nothing of the clip is left, errors are large
    and teach little.
    """
    return min(1 / (1 - alpha), 5.0) * alpha / (alpha + 0.1)
