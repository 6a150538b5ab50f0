"""Pictures and clips drawn by a model in training, and how often they show what their captions say."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from evenreel.diffusion import ddim, guidance
from evenreel.diffusion.schedule import NoiseSchedule
from evenreel.metrics.judge import Judge
from evenreel.random import generator
from evenreel.training.mini.latents import tokens_of
from evenreel.training.mini.unet import scheduler
from evenreel.training.trainee import autocast
from evenreel.world import ATTRIBUTES, HELD_OUT, Scene, caption, random_scene


def held_out(count: int, first: int = 0) -> list[Scene]:
    """Return scenes with one object that no model is trained on."""
    return [random_scene(HELD_OUT + first + number, objects=1) for number in range(count)]


@torch.inference_mode()
def drawn(
    unet: Any,
    text_encoder: Any,
    vae: Any,
    prompts: Sequence[str],
    *,
    steps: int = 25,
    guidance_scale: float = 4.0,
    seed: int = 0,
    dtype: str = "float32",
    frames: int = 1,
    control: tuple[Any, Tensor] | None = None,
) -> Tensor:
    """Return pictures (prompts * frames, 3, height, width) in [0, 1], by DDIM from noise; frames of a clip pass
    together.

    `control`: a ControlNetModel and what it is shown of each picture, as bytes (prompts * frames, 3, height, width).
    """
    device = next(unet.parameters()).device
    schedule = NoiseSchedule.from_config(
        dict(scheduler().config) | {"steps_offset": 1, "set_alpha_to_one": False}
    )
    side = unet.config.sample_size
    noise = torch.randn(len(prompts) * frames, 4, side, side, generator=generator(seed))
    latents = noise.to(device)
    with autocast(device, dtype):
        tokens = tokens_of([*([""] * len(prompts)), *prompts]).long().to(device)
        embeds = text_encoder(tokens).last_hidden_state.repeat_interleave(frames, dim=0)
        timesteps = schedule.timesteps(steps)
        for timestep, following in zip(timesteps, [*timesteps[1:], -1], strict=True):
            stacked, residuals = guidance.stack([latents] * 2), {}
            if control is not None:
                maps = guidance.stack([control[1].to(device) / 255] * 2)
                down, mid = control[0](stacked, timestep, embeds, maps, return_dict=False)
                residuals = {"down_block_additional_residuals": down, "mid_block_additional_residual": mid}
            output = unet(stacked, timestep, embeds, return_dict=False, **residuals)[0].float()
            noise_pred = guidance.combine(*guidance.split(output, 2), guidance_scale)
            latents = ddim.step(latents, noise_pred, schedule.alpha(timestep), schedule.alpha(following))
        decoded = [vae.decode(part / vae.config.scaling_factor).sample.float() for part in latents.split(64)]
    return (torch.cat(decoded) / 2 + 0.5).clamp(0, 1)


def shown_right(judge: Judge, pictures: Tensor, scenes: Sequence[Scene]) -> dict[str, float]:
    """Return the share of pictures that show each attribute of their scenes, in percent."""
    verdicts = [verdict for part in pictures.split(64) for verdict in judge.verdicts(part)]
    return {
        name: 100
        * sum(v[name] == s.attribute(name) for v, s in zip(verdicts, scenes, strict=True))
        / len(scenes)
        for name in ATTRIBUTES
    }


def captions_for(scenes: Sequence[Scene]) -> list[str]:
    """Return the plainest caption of each."""
    return [caption(scene) for scene in scenes]
