"""ControlNets of the mini model: how they begin, their micro-batches, and how closely drawings follow them."""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel

from evenreel.metrics.segmenter import mask_iou, packaged_segmenter
from evenreel.ops.edges import canny
from evenreel.ops.nearness import nearness
from evenreel.ops.skeleton import skeleton
from evenreel.training.control.trainee import ControlBatch, begun
from evenreel.training.mini import samples
from evenreel.training.mini.control_maps import KINDS, SIZE
from evenreel.training.mini.drawing import generator_of
from evenreel.training.mini.latents import SceneLatents
from evenreel.training.mini.unet import Drawn
from evenreel.world import HELD_OUT, Scene, keypoints, main_mask, random_scene, render

PARTS = {"control": KINDS, **{f"control-{kind}": (kind,) for kind in KINDS}}
"""Trainings of ControlNets and what each is shown; `control` is one for all kinds, which a map's look tells apart."""
HINT_CHANNELS = (16, 32, 64, 96)
"""Of the layers that read a map; published ones have 16, 32, 96, 256."""
UNCONDITIONAL = 0.5
"""Share of captions left out: a map must be understood without them (arXiv:2302.05543, section 3.4)."""


def build(unet: UNet2DConditionModel) -> ControlNetModel:
    """Return a copy of the UNet's way down, whose outputs begin at zero; half a UNet's parameters."""
    return begun(unet, HINT_CHANNELS)


class DrawnControls(Drawn):
    """As `Drawn`, with maps: pictures take turns in the kinds, so that each kind is seen at every noise level."""

    def __init__(
        self,
        scenes: SceneLatents,
        text_encoder: CLIPTextModel,
        kinds: tuple[str, ...],
        *,
        batch: int,
        seed: int,
        dtype: str = "float32",
    ) -> None:
        super().__init__(scenes, text_encoder, batch=batch, seed=seed, dtype=dtype)
        self.kinds, self.unconditional = kinds, UNCONDITIONAL

    def __call__(self, number: int) -> ControlBatch:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The micro-batch of a number; on a GPU, of what has been rendered so far."""
        self.take()
        scenes, device, batch = self.scenes, self.scenes.device, self.batch
        assert scenes.controls is not None, "scenes with what is known of them"
        generator = generator_of(device, "control", *self.kinds, self.seed, number)
        rows = torch.randint(scenes.ready, (batch,), generator=generator, device=device)
        frames = torch.randint(scenes.data.frames, (batch,), generator=generator, device=device)
        maps = torch.empty(batch, 3, SIZE, SIZE, dtype=torch.uint8, device=device)
        for turn, kind in enumerate(self.kinds):
            mine = slice((turn + number) % len(self.kinds), None, len(self.kinds))
            if kind == "pose":
                people = scenes.controls.people
                places = torch.randint(len(people), rows[mine].shape, generator=generator, device=device)
                rows[mine] = people[places]
            maps[mine] = scenes.controls.maps(kind, rows[mine], frames[mine])
        latents = scenes.latents[rows, frames].float()
        return ControlBatch(
            latents=latents,
            noise=torch.randn(latents.shape, generator=generator, device=device),
            timesteps=self.timesteps(batch, generator),
            prompt_embeds=self.embedded(rows, generator),
            maps=maps,
        )


def held_out(kind: str, count: int, first: int = 0) -> list[Scene]:
    """Return scenes with one object that nothing is trained on; for poses, of figures."""
    found: list[Scene] = []
    seed = HELD_OUT + first
    while len(found) < count:
        scene = random_scene(seed, objects=1)
        if kind != "pose" or scene.main.shape == "figure":
            found.append(scene)
        seed += 1
    return found


def exact_maps(kind: str, scenes: Sequence[Scene]) -> Tensor:
    """Return what a ControlNet of one of KINDS is shown of each scene's first frame: bytes (scenes 3 SIZE SIZE)."""
    if kind == "pose":
        return torch.cat([skeleton(keypoints(scene, [0], SIZE), (SIZE, SIZE)) for scene in scenes])
    rendered = [render(scene, [0], SIZE, maps=False) for scene in scenes]
    if kind == "depth":
        maps = nearness(torch.cat([each.depth for each in rendered]))
    else:
        maps = canny((torch.cat([each.frames for each in rendered]) * 255).round() / 255)[:, None]
    return (maps * 255).round().to(torch.uint8).expand(-1, 3, -1, -1)


def followed(
    net: Any,
    unet: Any,
    text_encoder: Any,
    vae: Any,
    kinds: Sequence[str],
    count: int,
    *,
    first: int = 0,
    dtype: str = "float32",
) -> tuple[dict[str, float], Tensor]:
    """Return how closely drawings follow maps of unseen scenes, and the first 16 drawings of each kind below their
    maps.

    Figures: the mean overlap (intersection over union, percent) of the object that is seen in a drawing, by the
    packaged segmenter, with that of the scene: with the ControlNet; without it, which says how much of that the caption
    alone gives; and with the map of the next scene (`other map`), which says that it is the map that counts.
    """
    figures: dict[str, float] = {}
    shown: list[Tensor] = []
    segmenter = packaged_segmenter().to(next(unet.parameters()).device)
    for kind in kinds:
        scenes = held_out(kind, count, first)
        maps = exact_maps(kind, scenes)
        masks = torch.cat([main_mask(scene, [0], SIZE) for scene in scenes]) > 0.5
        told = {"dtype": dtype, "seed": first}
        prompts = samples.captions_for(scenes)
        for name, control in (
            ("", (net, maps)),
            (" without", None),
            (" other map", (net, maps.roll(1, 0))),
        ):
            pictures = samples.drawn(unet, text_encoder, vae, prompts, control=control, **told)
            found = segmenter.masks(pictures).cpu()
            figures[f"{kind}{name}"] = round(100 * float(mask_iou(found, masks).mean()), 1)
            if not name:
                shown += [maps[:16].float() / 255, pictures[:16].cpu()]
    return figures, torch.cat(shown)
