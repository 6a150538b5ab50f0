"""An adapter for a mini model, trained on edits of scenes that are rendered meanwhile."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from evenreel import random
from evenreel.adapters import checkpoint
from evenreel.adapters.adapter import Adapter
from evenreel.adapters.checkpoint import Origin
from evenreel.adapters.settings import LoraSettings
from evenreel.adapters.window import Window
from evenreel.backbones.base import Backbone
from evenreel.motion.modules import MotionModules
from evenreel.training.adapter import recipes
from evenreel.training.adapter.objective import training_in
from evenreel.training.adapter.settings import AdapterTrainingSettings, EditLossSettings
from evenreel.training.loop import Training
from evenreel.training.loop_settings import LoopSettings
from evenreel.training.mini.edits import DrawnEdits
from evenreel.training.mini.latents import SceneLatents
from evenreel.training.processes import Processes


def settings_for(loop: LoopSettings, *, rank: int, window: Window, seed: int = 0) -> AdapterTrainingSettings:
    """Return the recipe `edits` for as many clips at once as a large GPU takes: another length, rank and window."""
    recipe = recipes.adapter("edits")
    assert isinstance(recipe.loss, EditLossSettings)
    lora = LoraSettings(scope="all", rank=rank, alpha=float(rank))
    used = {"training_window": window, "inference_window": window, "scale": 1.0}
    return replace(
        recipe,
        adapter=replace(recipe.adapter, lora=lora, **used),
        loss=replace(recipe.loss, window=window, motion="given"),
        loop=loop,
        seed=seed,
    )


class WorldAdapter:
    """A training under way, and the adapter that comes out of it."""

    def __init__(
        self, adapter: Adapter, training: Training, draw: DrawnEdits, settings: AdapterTrainingSettings
    ) -> None:
        self.adapter, self.training, self.draw, self.settings = adapter, training, draw, settings

    def save(self, path: Path, backbone: Backbone) -> None:
        """Write the adapter as it is averaged so far; its training goes on with the weights that it has."""
        lora = self.adapter.lora
        assert lora is not None, "made with one"
        averaged = {
            name.removeprefix("adapter.lora."): value for name, value in self.training.averaged.items()
        }
        kept = Adapter(self.adapter.settings, type(lora)(lora.settings, lora.shapes), None)
        assert kept.lora is not None
        kept.lora.load_state_dict({name: value.cpu() for name, value in averaged.items()})
        notes = {
            "objective": "edits of rendered scenes, side by side",
            "steps": self.training.step,
            "seconds": round(self.training.seconds),
            "clips": self.draw.batch,
            "frames": self.draw.scenes.data.shown,
        }
        origin = Origin(
            base=backbone.unet_fingerprint, base_name="mini", licence=self.settings.licence, notes=notes
        )
        checkpoint.save(kept, path, origin)


@contextmanager
def world_adapter(
    backbone: Backbone,
    modules: MotionModules | None,
    scenes: SceneLatents,
    settings: AdapterTrainingSettings,
    folder: Path,
    processes: Processes,
    *,
    batch: int,
) -> Generator[WorldAdapter]:
    """Put an adapter into the model, with its training in `folder`, while inside. `batch` counts clips of a step."""
    assert isinstance(settings.loss, EditLossSettings)
    adapter = Adapter.of(backbone, settings.adapter, generator=random.generator(settings.seed))
    with training_in(backbone, adapter.to(backbone.device), settings.loss, modules) as trainee:
        draw = DrawnEdits(scenes, backbone, settings.loss, batch=batch, seed=settings.seed)
        training = Training(
            "adapter",
            trainee,
            settings.loop,
            folder,
            processes=processes,
            unit=draw.length,
            seed=settings.seed,
        )
        yield WorldAdapter(adapter, training, draw, settings)
