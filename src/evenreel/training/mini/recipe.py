"""How the parts of the mini model are trained: measured settings, in the order in which the parts need each other."""

from dataclasses import dataclass, field, replace
from typing import Any

from evenreel.settings.changes import changed
from evenreel.training.loop_settings import LoopSettings, lasting
from evenreel.training.mini.scene_data import SceneData

POOL_SIZE = 30_000
"""Pictures that the autoencoder, CLIP and the judge are trained on."""
CONTROLS = ("control", "control-depth", "control-canny", "control-pose")
"""ControlNets: one for all kinds of maps, and one for each, which is trained only where it is named."""
BETAS = (0.9, 0.99)
EDITS_FROM = 1 << 32
"""Seed of the first scene that is edited in a training."""


def _loop(steps: int, **changes: Any) -> LoopSettings:
    return LoopSettings(**{"steps": steps, "optimizer": "muon", "betas": BETAS, "average": 0.999, **changes})


@dataclass(frozen=True, kw_only=True)
class PartRecipe:
    """How one part is trained."""

    loop: LoopSettings
    """Steps, learning rate, averages."""
    batch: int
    """Samples of a micro-batch."""
    seed: int = 0
    """Where the weights and the micro-batches start."""


@dataclass(frozen=True, kw_only=True)
class MiniRecipe:
    """How the whole model is trained."""

    parts: dict[str, PartRecipe] = field(
        default_factory=lambda: {
            "vae": PartRecipe(loop=_loop(3000, learning_rate=2.5e-3, weight_decay=0.0), batch=16),
            "text": PartRecipe(loop=_loop(2200, warmup=300), batch=48),
            "vision": PartRecipe(loop=_loop(9500, learning_rate=2e-3, warmup=300), batch=48),
            "decoder": PartRecipe(loop=_loop(800, warmup=50, weight_decay=0.0, average=0.995), batch=8),
            "judge": PartRecipe(loop=_loop(1500), batch=64),
            "unet": PartRecipe(loop=_loop(2500, average=0.998), batch=32),
            "motion": PartRecipe(loop=_loop(1000, average=0.995), batch=2),
            **{name: PartRecipe(loop=_loop(1000, average=0.995), batch=24) for name in CONTROLS},
        }
    )
    """By name, in the order in which they need each other."""
    scenes: SceneData = field(default_factory=lambda: SceneData(count=20_000, begin=20_000))
    """What the UNet is trained on."""
    clips: SceneData = field(
        default_factory=lambda: SceneData(count=1000, begin=1000, frames=16, strides=(1, 1, 2), chunk=16)
    )
    """What motion modules are trained on."""
    pool: int = POOL_SIZE
    """Rendered pictures for all other parts."""
    edits: SceneData = field(
        default_factory=lambda: SceneData(
            count=512, begin=512, frames=16, captions=2, chunk=8, edited=True, first=EDITS_FROM
        )
    )
    """What an adapter for the model is trained on: scenes before and after a change."""
    joint: bool = False
    """Whether the UNet learns together with its motion modules, from clips: part `motion` then trains both."""

    @property
    def controlled(self) -> SceneData:
        """What ControlNets are trained on: pictures or clips, whichever are kept with maps; by default pictures."""
        return self.clips if self.clips.controls else replace(self.scenes, controls=True)

    def told(self, **told: Any) -> "MiniRecipe":
        """Return the recipe with what was told of the loops, by flat names (`steps`, `dtype`), in every part.

        Minutes alone set no steps. Raises: SettingsError.
        """
        told = lasting(told)
        return replace(
            self,
            parts={
                name: replace(part, loop=changed(part.loop, told, "a training"))
                for name, part in self.parts.items()
            },
        )
