"""Edits of the world for an adapter of the mini model, of scenes that are rendered while it is trained."""

import random

import torch

from evenreel.backbones.base import Backbone
from evenreel.hosts.base import Prompts
from evenreel.training.adapter.edits import timesteps_of
from evenreel.training.adapter.prepared_edit import PreparedEdit
from evenreel.training.adapter.settings import EditLossSettings
from evenreel.training.mini.drawing import generator_of
from evenreel.training.mini.latents import SceneLatents
from evenreel.training.mini.rendering import edit_of


class DrawnEdits:
    """Micro-batches by number, as `training.adapter.edits.EditDraws`; all of an edit's steps follow each other."""

    def __init__(
        self, scenes: SceneLatents, backbone: Backbone, settings: EditLossSettings, *, batch: int, seed: int
    ) -> None:
        """`scenes` are of edited data: frames before the change, then after it. `batch` counts clips."""
        self.scenes, self.backbone, self.settings = scenes, backbone, settings
        self.batch, self.seed = batch, seed
        self.length = len(timesteps_of(settings, backbone)[1])
        """Steps of training that an edit takes."""
        self._kept: tuple[int, PreparedEdit] | None = None
        self._nothing = backbone.embed([""]).clone()

    def __call__(self, number: int) -> PreparedEdit:
        """The micro-batch of a number; on a GPU, of what has been rendered so far."""
        edit, within = divmod(number, self.length)
        if self._kept is None or self._kept[0] != edit:
            while self.scenes.take():
                pass
            self._kept = edit, self._prepared(edit)
        return PreparedEdit(**{**self._kept[1].__dict__, "step": within})

    @torch.no_grad()
    def _prepared(self, edit: int) -> PreparedEdit:
        scenes, data = self.scenes, self.scenes.data
        generator = generator_of(torch.device("cpu"), "edits", self.seed, edit)
        rows = torch.randint(scenes.ready, (self.batch,), generator=generator)
        latents = scenes.latents[rows.to(scenes.device)].float()
        before, after = latents.split(data.shown, dim=1)
        texts = [edit_of(data.first + row)[2] for row in rows.tolist()]
        source_text, text = (
            self.backbone.embed([pair[which] for pair in texts]).clone() for which in range(2)
        )
        scale = random.Random(f"evenreel guidance {self.seed} {edit}").uniform(*self.settings.guidance_scale)
        return PreparedEdit(
            slot=0,
            step=0,
            latents=before.flatten(0, 1),
            answers=after.flatten(0, 1),
            source_text=source_text,
            text=text,
            negative_text=self._nothing,
            prompts=tuple(Prompts(source=source, edit=wanted) for source, wanted in texts),
            vision=None,
            guidance_scales=(scale,) * self.batch,
            seeds=tuple(edit * self.batch + index for index in range(self.batch)),
        )
