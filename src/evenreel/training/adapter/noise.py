"""What an adapter learns from noise: pairs of frames at two noise levels, the noise and the temporal loss (GE-Adapter).

Everything frozen is computed once for each frame: latents, vision tokens and text are shared by the two noise levels,
and kept for the next time the same frames come.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from evenreel import random
from evenreel.adapters.adapter import Adapter
from evenreel.adapters.features import features_collected
from evenreel.adapters.lora import LoraSwitch
from evenreel.adapters.temporal_loss import temporal_loss
from evenreel.backbones.base import Backbone
from evenreel.backbones.conditioning import conditions, frame_size
from evenreel.backbones.control import ControlNet
from evenreel.diffusion import ddim
from evenreel.errors import SettingsError
from evenreel.ops.nearness import nearness
from evenreel.ops.token_motion import along_flow, grid_of
from evenreel.ops.warp import visible_by_depth
from evenreel.training.adapter.settings import LossSettings
from evenreel.training.data.encoded import Encoded
from evenreel.training.data.shards import Batch
from evenreel.training.trainee import Trainee

LEVELS = 2
"""Noise levels at which each pair is seen."""
ANCHOR = 0.05
"""Share of the noise at which the source's own features are taken, by which `source-anchored` measures."""


@dataclass(frozen=True)
class Prepared:
    """A micro-batch with everything frozen computed. Rows: videos outermost, then frames."""

    latents: Float[Tensor, "rows channels height width"]
    noise: Float[Tensor, "noisy channels height width"]
    """For (videos levels frames)."""
    timesteps: Float[Tensor, "videos levels"]
    vision: Float[Tensor, "rows _ _"] | None
    """Hidden states of the vision tower, where prompt tokens are trained."""
    text: Float[Tensor, "videos _ _"]
    """Prompt embeddings."""
    flow: tuple[Tensor, Tensor] | None
    """Flow from frame to frame and what stays visible, (videos frames-1) outermost, where they are known."""
    maps: UInt8[Tensor, "rows 1 _ _"] | None = None
    """Depths as a ControlNet is shown them, where one is at work."""


def prepare(batch: Batch, encoded: Encoded, settings: LossSettings) -> Prepared:
    """Make a micro-batch for `AdapterTrainee`; noise and noise levels follow from the batch's own seeds."""
    schedule = encoded.backbone.schedule
    drawn = settings.noise_levels or settings.window
    allowed = drawn.timesteps(len(schedule.alphas_cumprod))
    if not allowed:
        raise SettingsError(f"the training window {drawn} holds no timestep; widen it.")
    latents = encoded.latents(batch)
    frames = batch.frames.shape[1]
    noise, levels, captions = [], [], []
    for seed, caption in zip(batch.seeds, batch.captions, strict=True):
        generator = random.generator(seed)
        levels.append(torch.randint(allowed.start, allowed.stop, (LEVELS,), generator=generator))
        own = torch.randn(LEVELS, frames, *latents.shape[1:], generator=generator)
        dropped = float(torch.rand((), generator=generator)) < settings.unconditional
        common = torch.randn(LEVELS, 1, *latents.shape[1:], generator=generator)
        share = settings.shared_noise
        noise.append((share**0.5 * common + (1 - share) ** 0.5 * own).flatten(0, 1))
        captions.append("" if dropped else caption)
    return Prepared(
        latents=latents,
        noise=torch.cat(noise).to(latents),
        timesteps=torch.stack(levels).to(latents),
        vision=encoded.hidden(batch),
        text=encoded.text(captions),
        flow=_known_flow(batch, latents.device),
        maps=None if settings.control is None else _depths(batch, latents.device),
    )


class AdapterTrainee(Trainee):
    """An adapter at work in a frozen UNet; its forward pass returns (loss, figures)."""

    def __init__(
        self,
        backbone: Backbone,
        adapter: Adapter,
        switch: LoraSwitch | None,
        settings: LossSettings,
        control: ControlNet | None = None,
    ) -> None:
        """`switch` turns the LoRA off where it rests; `control` is at work all the time, and frozen."""
        super().__init__()
        self.adapter, self.settings = adapter, settings
        # In a list: the frozen network is not a part of what is trained, synchronised or saved.
        self._frozen = [backbone]
        self._control = [] if control is None else [control]
        self._switch = switch

    def forward(self, batch: Prepared) -> tuple[Tensor, dict[str, Tensor]]:
        """Return loss and figures of one micro-batch."""
        backbone, settings = self._frozen[0], self.settings
        videos = len(batch.timesteps)
        frames = len(batch.latents) // videos
        clean = _at_levels(batch.latents, videos)
        timesteps = batch.timesteps.long().repeat_interleave(frames, dim=1).flatten()
        alphas = torch.tensor(backbone.schedule.alphas_cumprod, device=clean.device)[timesteps].view(
            -1, 1, 1, 1
        )
        noisy = ddim.add_noise(clean, batch.noise, alphas)
        embeds = self._embeds(batch, frames)
        residuals = self._residuals(batch, noisy, timesteps, frames)
        output, collected = self._predicted(noisy, timesteps, _at_levels(embeds, videos), residuals)
        wanted = _target(backbone.schedule.prediction_type, clean, batch.noise, alphas)
        diffusion = functional.mse_loss(output, wanted)
        temporal = self._temporal(batch, embeds, collected, frames)
        loss = settings.weight_diffusion * diffusion + settings.weight_temporal * temporal
        return loss, {"diffusion": diffusion.detach(), "temporal": temporal.detach()}

    def _predicted(
        self, noisy: Tensor, timesteps: Tensor, embeds: Tensor, residuals: dict[str, Any]
    ) -> tuple[Tensor, list[Tensor]]:
        """What the network says, and its features; the LoRA rests in rows outside of its window."""
        window, trained = self.settings.window, len(self._frozen[0].schedule.alphas_cumprod)
        if self.settings.noise_levels is None or self._switch is None:
            return self._called(noisy, timesteps, embeds, residuals)
        working = torch.tensor([window.holds(timestep, trained) for timestep in timesteps.tolist()])
        parts, places = [], []
        for is_on in (True, False):
            rows = (working == is_on).nonzero().flatten().to(noisy.device)
            if len(rows):
                self._switch.turn(on=is_on)
                mine = {
                    name: value[rows] if isinstance(value, Tensor) else [each[rows] for each in value]
                    for name, value in residuals.items()
                }
                parts.append(self._called(noisy[rows], timesteps[rows], embeds[rows], mine))
                places.append(rows)
        self._switch.turn(on=True)
        order = torch.cat(places).argsort()
        outputs, features = zip(*parts, strict=True)
        return torch.cat(outputs)[order], [torch.cat(layer)[order] for layer in zip(*features, strict=True)]

    def _called(
        self, noisy: Tensor, timesteps: Tensor, embeds: Tensor, residuals: dict[str, Any]
    ) -> tuple[Tensor, list[Tensor]]:
        backbone = self._frozen[0]
        with features_collected(backbone.unet) as features:
            output = backbone.unet(
                noisy.to(backbone.dtype),
                timesteps,
                **conditions(backbone.unet, embeds, frame_size(noisy), backbone.dtype),
                return_dict=False,
                **residuals,
            )[0].float()
            return output, list(features.values())

    @torch.no_grad()
    def _residuals(self, batch: Prepared, noisy: Tensor, timesteps: Tensor, frames: int) -> dict[str, Any]:
        """What the ControlNet adds; it sees the prompt alone."""
        if batch.maps is None or not self._control:
            return {}
        net, videos = self._control[0].net, len(batch.timesteps)
        maps = _at_levels(batch.maps, videos).to(net.dtype) / 255
        text = batch.text.repeat_interleave(LEVELS * frames, dim=0)
        down, mid = net(
            noisy.to(net.dtype),
            timesteps,
            **conditions(net, text, (maps.shape[-2], maps.shape[-1]), net.dtype),
            controlnet_cond=maps.expand(-1, 3, -1, -1),
            return_dict=False,
        )
        return {"down_block_additional_residuals": list(down), "mid_block_additional_residual": mid}

    def _embeds(self, batch: Prepared, frames: int) -> Tensor:
        text = batch.text.repeat_interleave(frames, dim=0)
        if self.adapter.tokens is None:
            return text
        return self.adapter.tokens.before(text, batch.vision)

    def _temporal(self, batch: Prepared, embeds: Tensor, features: list[Tensor], frames: int) -> Tensor:
        settings, backbone = self.settings, self._frozen[0]
        trained = len(backbone.schedule.alphas_cumprod)
        above = batch.timesteps >= settings.gate * trained
        # Eq. 4 looks at one noise level at a time; the other forms at both
        gated = above.flatten() if settings.temporal == "frames" else above.all(1)
        if not settings.weight_temporal or not bool(gated.any()):
            return features[0].new_zeros(())
        rows = gated.nonzero().flatten().tolist()
        if settings.temporal == "frames":
            return temporal_loss(
                "frames", [_of_videos(layer, rows, frames) for layer in features], frames=frames
            )
        chosen = [_of_videos(layer, rows, LEVELS * frames) for layer in features]
        if settings.temporal != "source-anchored":
            return temporal_loss(settings.temporal, chosen, frames=frames, levels=LEVELS)
        latents, text = _of_videos(batch.latents, rows, frames), _of_videos(batch.text, rows, 1)
        source = self._anchors(latents, text.repeat_interleave(frames, dim=0))
        motion = None
        if batch.flow is not None:
            size = (batch.latents.shape[2], batch.latents.shape[3])
            flow, visible = (_of_videos(part, rows, frames - 1) for part in batch.flow)
            motion = [along_flow(flow, visible, grid_of(layer.shape[1], size)) for layer in source]
        return temporal_loss(
            settings.temporal, chosen, frames=frames, levels=LEVELS, source=source, motion=motion
        )

    @torch.no_grad()
    def _anchors(self, latents: Tensor, text: Tensor) -> list[Tensor]:
        """Features of the source by the model as it is, almost without noise (none is drawn: its mean is taken)."""
        backbone = self._frozen[0]
        timestep = round(ANCHOR * len(backbone.schedule.alphas_cumprod))
        noisy = backbone.schedule.alpha(timestep) ** 0.5 * latents
        if self._switch is not None:
            self._switch.turn(on=False)
        try:
            with features_collected(backbone.unet) as features:
                backbone.unet(
                    noisy.to(backbone.dtype),
                    timestep,
                    **conditions(backbone.unet, text, frame_size(noisy), backbone.dtype),
                    return_dict=False,
                )
                return list(features.values())
        finally:
            if self._switch is not None:
                self._switch.turn(on=True)


def _depths(batch: Batch, device: torch.device) -> Tensor:
    shown = nearness(batch.maps["depth"].flatten(0, 1))
    return (shown * 255).round().to(device, torch.uint8)


def _known_flow(batch: Batch, device: torch.device) -> tuple[Tensor, Tensor] | None:
    if not {"flow", "depth"} <= batch.maps.keys():
        return None
    flow = batch.maps["flow"]
    seen = [visible_by_depth(depth, moves) for depth, moves in zip(batch.maps["depth"], flow, strict=True)]
    return flow.flatten(0, 1).to(device), torch.cat(seen).to(device)


def _at_levels(rows: Tensor, videos: int) -> Tensor:
    """(videos frames) to (videos levels frames)."""
    clips = rows.unflatten(0, (videos, -1))
    return clips[:, None].expand(-1, LEVELS, *clips.shape[1:]).flatten(0, 2)


def _of_videos(rows: Tensor, videos: Sequence[int], each: int) -> Tensor:
    """The rows of some videos, of `each` of which there are so many."""
    return rows.unflatten(0, (-1, each))[list(videos)].flatten(0, 1)


def _target(prediction_type: str, clean: Tensor, noise: Tensor, alphas: Tensor) -> Tensor:
    """What a network of this kind is to return."""
    match prediction_type:
        case "epsilon":
            return noise
        case "v_prediction":
            return alphas.sqrt() * noise - (1 - alphas).sqrt() * clean
        case "sample":
            return clean
    raise SettingsError(f"adapters cannot be trained for models that predict {prediction_type!r}.")
